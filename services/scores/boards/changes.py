"""What moves a board: an award just written, or another change of a player."""

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An action's ledger row: its award, or that it was given up."""

    action_id: str
    user_id: str
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int  # of the player, after it; 0: given up
    seq: int
    at_ms: int
    attempt_id: str
    client_id: str | None
    key_hash: bytes | None
    body_hash: bytes | None

    @property
    def given_up(self) -> bool:
        """Nothing was awarded, nor will be."""
        return self.version == 0


class Written(Row, frozen=True, kw_only=True, gc=False):
    """A row that was just inserted, with the running totals after it and the player as known."""

    day_total: int
    week_total: int
    month_total: int
    hidden: bool
    username: str
    name_version: int
    boards: int  # how many there were


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A change as subscribers get it: an award, its reversal, or a player hidden or shown."""

    kind: str  # award, void, restore, hidden, shown
    event_id: str  # of an award: its action's id
    origin_id: str | None = None  # of a reversal: the award
    user_id: str
    username: str
    version: int
    seq: int
    action_type: str = ""
    points: int = 0
    old_score: int
    new_score: int
    at_ms: int
    hidden: bool
