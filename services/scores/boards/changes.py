"""What moves a board: an award's ledger row, or another change of a player."""

from typing import NamedTuple


class Row(NamedTuple):
    """An award's ledger row, and the running totals right after it."""

    outcome: str  # inserted; seen: it was there before; copy: of an earlier item of the batch
    action_id: str
    user_id: str
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int
    seq: int
    at_ms: int
    attempt_id: str
    client_id: str | None
    key_hash: bytes | None
    body_hash: bytes | None
    day_total: int
    week_total: int
    month_total: int
    hidden: bool
    username: str
    name_version: int


class Change(NamedTuple):
    """What others are told of: an award, its reversal, or a player hidden or shown."""

    kind: str  # award, void, restore, hidden, shown
    event_id: str
    origin_id: str | None
    user_id: str
    username: str
    version: int
    seq: int
    action_type: str
    points: int
    old_score: int
    new_score: int
    at_ms: int
    hidden: bool
