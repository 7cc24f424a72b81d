"""What is published on live channels: the frames that clients read, and where a channel stands."""

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from protos import realtime_pb2

Reason = Literal["epochChanged", "tooManyChanges"]

encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One place of a window: `position`, from 1, is the board's order; `rank` follows its ties."""

    position: int
    rank: int
    user_id: str
    username: str
    score: int


class Window(msgspec.Struct, frozen=True, rename="camel"):
    """The first entries of a board, in its order: the data of `leaderboard.update` and of every
    snapshot. `updated_at` is None for a board that never changed."""

    board: str
    period: str
    entries: tuple[Entry, ...]
    total: int
    updated_at: str | None


class Change(msgspec.Struct, frozen=True, rename="camel"):
    """Where a player of the window stands now; `old_rank` is None for a player new in it."""

    user_id: str
    username: str
    score: int
    position: int
    rank: int
    old_rank: int | None


class RankChange(msgspec.Struct, frozen=True, rename="camel"):
    """What turns one window into the next: the data of `leaderboard.rank_change`."""

    changes: tuple[Change, ...]
    removed: tuple[str, ...]
    total: int


class ScoreUpdated(msgspec.Struct, frozen=True, rename="camel"):
    """One award of a player: the data of `score.updated`."""

    user_id: str
    username: str
    action_id: str
    board: str
    old_score: int
    new_score: int
    score_increment: int
    old_rank: int | None
    rank: int | None
    version: int
    timestamp: str


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """Where a player stands in all_time, None where not ranked: a user channel's snapshot."""

    score: int | None
    rank: int | None
    version: int


UNRANKED = Standing(score=None, rank=None, version=0)


class Delta(msgspec.Struct, frozen=True, kw_only=True, tag="delta", tag_field="type"):
    """A frame with a change; on user channels without epoch and offset."""

    channel: str
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    ts: str
    event: Literal["leaderboard.rank_change", "score.updated"]
    data: RankChange | ScoreUpdated


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot", tag_field="type"):
    """A frame with a whole window, which is JSON already."""

    channel: str
    epoch: str
    offset: int
    reason: Reason
    data: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Position:
    """An epoch and the offset in it. No epoch: unknown."""

    epoch: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """One finished client frame; on board channels also the window after it, as JSON.

    `awarded_at_ms` is the time of the oldest award that it is the first to show; 0: not known.
    """

    channel: str
    frame: bytes
    at_ms: int
    position: Position = Position()
    snapshot: bytes = b""
    awarded_at_ms: int = 0

    @property
    def size(self) -> int:
        """Its payload in bytes."""
        return len(self.frame) + len(self.snapshot)

    def message(self) -> realtime_pb2.Publication:
        """The publication as gateways get it."""
        return realtime_pb2.Publication(
            channel=self.channel,
            epoch=self.position.epoch,
            offset=self.position.offset,
            frame=self.frame,
            snapshot=self.snapshot,
            at_ms=self.at_ms,
            awarded_at_ms=self.awarded_at_ms,
        )


def window(snapshot: bytes) -> Window | None:
    """The window in a snapshot; None where a process of another version wrote it differently."""
    try:
        return msgspec.json.decode(snapshot, type=Window)
    except msgspec.ValidationError:
        return None


def difference(before: Window, after: Window) -> RankChange | None:
    """What changed between two windows of one period; None for nothing."""
    were = {entry.user_id: entry for entry in before.entries}
    changes = tuple(
        Change(
            user_id=entry.user_id,
            username=entry.username,
            score=entry.score,
            position=entry.position,
            rank=entry.rank,
            old_rank=was.rank if (was := were.get(entry.user_id)) else None,
        )
        for entry in after.entries
        if were.get(entry.user_id) != entry
    )
    here = {entry.user_id for entry in after.entries}
    removed = tuple(user_id for user_id in were if user_id not in here)
    if not changes and not removed and before.total == after.total:
        return None
    return RankChange(changes=changes, removed=removed, total=after.total)
