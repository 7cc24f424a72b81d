"""Open boards as Postgres has them: what is read while Redis cannot tell."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis import clock
from chassis.postgres import Database
from services.scores.boards.rules import Board, Period


@dataclass(frozen=True, slots=True)
class Row:
    """A player on a board; `version` is the player's."""

    user_id: str
    username: str
    score: int
    seq: int
    at_ms: int
    version: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The first rows of a board and period, in its order, and how many there are in all."""

    rows: Sequence[Row]
    total: int
    now_ms: int  # it has all that was committed before
    updated_at_ms: int


class Snapshots:
    """Every method raises DbUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def take(self, board: Board, period: Period, *, limit: int) -> Snapshot | None:
        """The first `limit` rows; None: the period is closed."""
        records = await self._fetch(
            _SNAPSHOT,
            board.name,
            period.start_ms,
            -1 if board.descending else 1,
            limit,
            clock.offset(),
        )
        if not records:
            return None
        # A board without players answers one row, which has none.
        rows = [
            Row(r["user_id"], r["username"], r["score"], r["seq"], r["at_ms"], r["version"])
            for r in records
            if r["user_id"] is not None
        ]
        first = records[0]
        return Snapshot(rows, first["total"], first["now_ms"], first["updated_at_ms"] or 0)

    async def oldest_untold_ms(self) -> int | None:
        """The time of the oldest change that the boards have not acknowledged (Unix ms)."""
        (record,) = await self._fetch(
            "SELECT (extract(epoch FROM min(o.at)) * 1000)::bigint AS at_ms"
            " FROM scores.outbox o WHERE NOT o.published"
        )
        at_ms: int | None = record["at_ms"]
        return at_ms


_SNAPSHOT = """
    SELECT t.total, t.updated_at_ms, r.user_id, r.username, r.score, r.seq, r.at_ms, r.version,
           (extract(epoch FROM statement_timestamp() + $5) * 1000)::bigint AS now_ms
    FROM scores.periods o
    CROSS JOIN (
      SELECT count(*) AS total, (extract(epoch FROM max(s.at)) * 1000)::bigint AS updated_at_ms
      FROM scores.standing($1, $2) s) t
    LEFT JOIN (
      SELECT s.user_id::text AS user_id, s.username, s.score, s.seq, s.version,
             (extract(epoch FROM s.at) * 1000)::bigint AS at_ms
      FROM scores.standing($1, $2) s
      ORDER BY $3::int * s.score, s.seq LIMIT $4) r ON true
    WHERE o.board = $1 AND o.period = $2 AND o.closed_at IS NULL
    ORDER BY $3::int * r.score, r.seq
"""
