"""The frames clients read on live channels, and how two windows of a board differ."""

from typing import Literal

import msgspec

from chassis.times import rfc3339

Reason = Literal["epochChanged", "tooManyChanges"]


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One place of a window."""

    rank: int
    user_id: str
    username: str
    score: int


class Window(msgspec.Struct, frozen=True, rename="camel"):
    """The first entries of a board: the data of `leaderboard.update` and of every snapshot."""

    board: str
    period: str
    entries: tuple[Entry, ...]
    total: int
    updated_at: str

    def encoded(self) -> bytes:
        """As JSON."""
        return _encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> "Window":
        """From JSON that `encoded` made."""
        return msgspec.json.decode(data, type=cls)


class Change(msgspec.Struct, frozen=True, rename="camel"):
    """Where a player of the window stands now; `old_rank` is None for who was not in it."""

    user_id: str
    username: str
    score: int
    rank: int
    old_rank: int | None


class RankChange(msgspec.Struct, frozen=True, rename="camel"):
    """What turns one window into the next: the data of `leaderboard.rank_change`."""

    changes: tuple[Change, ...]
    removed: tuple[str, ...]
    total: int


class ScoreUpdated(msgspec.Struct, frozen=True, rename="camel"):
    """One award of a player, for the player: the data of `score.updated`."""

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

    def encoded(self) -> bytes:
        """As JSON."""
        return _encode(self)


def difference(before: Window, after: Window) -> RankChange | None:
    """What changed between two windows of one period; None for nothing."""
    were = {entry.user_id: entry for entry in before.entries}
    changes = tuple(
        Change(
            user_id=entry.user_id,
            username=entry.username,
            score=entry.score,
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


def rank_change(change: RankChange, *, channel: str, epoch: str, offset: int, at_ms: int) -> bytes:
    """The finished `delta` frame of a board channel."""
    frame = _Delta(
        channel=channel,
        epoch=epoch,
        offset=offset,
        ts=rfc3339(at_ms),
        event="leaderboard.rank_change",
        data=change,
    )
    return _encode(frame)


def snapshot(window: bytes, *, channel: str, epoch: str, offset: int, reason: Reason) -> bytes:
    """The finished `snapshot` frame of a board channel; `window` is already JSON."""
    data = msgspec.Raw(window)
    return _encode(_Snapshot(channel=channel, epoch=epoch, offset=offset, reason=reason, data=data))


def score_updated(update: ScoreUpdated, *, channel: str, at_ms: int) -> bytes:
    """The finished `delta` frame of a user channel."""
    frame = _PersonalDelta(channel=channel, ts=rfc3339(at_ms), event="score.updated", data=update)
    return _encode(frame)


_encode = msgspec.json.Encoder().encode


class _Delta(msgspec.Struct, frozen=True, tag="delta", tag_field="type"):
    channel: str
    epoch: str
    offset: int
    ts: str
    event: str
    data: RankChange


class _PersonalDelta(msgspec.Struct, frozen=True, tag="delta", tag_field="type"):
    channel: str
    ts: str
    event: str
    data: ScoreUpdated


class _Snapshot(msgspec.Struct, frozen=True, tag="snapshot", tag_field="type"):
    channel: str
    epoch: str
    offset: int
    reason: Reason
    data: msgspec.Raw
