"""What stands in the ledger and beside it: awards, reversals, receipts, changes to be told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from services.scores.boards.changes import Change, Row


class Claim(NamedTuple):
    """A verified award that asks to be written."""

    action_id: str
    user_id: str
    username: str
    name_version: int
    action_type: str
    points: int
    attempt_id: str
    client_id: str | None  # the game server that grants it
    key_hash: bytes | None
    body_hash: bytes | None
    under_review: bool = False  # told to the player, not written


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger row as its player sees it: an award, or a reversal of one."""

    action_id: str
    kind: str  # award, void, restore
    origin_id: str | None  # of a reversal: the award
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int
    seq: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A change in the outbox; `published`: only its settlement is outstanding."""

    change: Change
    published: bool


@dataclass(frozen=True, slots=True)
class Sanction:
    """Whether a player is hidden, by the sanction of that version."""

    user_id: str
    hidden: bool
    version: int


class Receipt(NamedTuple):
    """What was answered beside the ledger row."""

    rank: int | None
    old_rank: int | None
    warnings: tuple[str, ...]
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """To void or restore awards of a player: those made in [start, end), those named, or all."""

    kind: str  # void, restore
    user_id: str
    start: datetime | None = None
    end: datetime | None = None
    action_ids: Sequence[str] | None = None
    reason: str
    actor: str
    dry_run: bool = False


class ScoreRange(Exception):
    """An award would take a total beyond what a score can be."""


def row(record: Any, action_id: str) -> Row:
    """A row of `scores.award`, or of the same columns."""
    # By position, since names would cost several times as much: the columns of both statements
    # are in the order of the fields.
    outcome, user_id, *rest = record
    return Row._make((outcome, action_id, str(user_id), *rest[:7], str(rest[7]), *rest[8:17]))


def change(record: Any) -> Change:
    """A row of the outbox, or of the same columns."""
    return Change(
        kind=record["kind"],
        event_id=str(record["event_id"]),
        origin_id=text(record["origin_id"]),
        user_id=str(record["user_id"]),
        username=record["username"],
        version=record["version"],
        seq=record["seq"],
        action_type=record["action_type"],
        points=record["points"],
        old_score=record["old_score"],
        new_score=record["new_score"],
        at_ms=record["at_ms"],
        hidden=record["hidden"],
    )


def text(value: object) -> str | None:
    """A value that may be null, as text."""
    return None if value is None else str(value)
