"""What is read from Postgres: snapshots of open boards, and players' histories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chassis import clock
from chassis.postgres import Database
from chassis.postgres.replica import Reader
from services.scores.boards.rules import Period


@dataclass(frozen=True, slots=True)
class SnapshotRow:
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

    rows: Sequence[SnapshotRow]
    total: int
    now_ms: int  # it has all that was committed before
    updated_at_ms: int


class HistoryStore:
    """A player's own ledger, from `reader`: possibly some seconds old."""

    def __init__(self, reader: Reader) -> None:
        self._read = reader.fetch

    async def history(
        self, user_id: str, *, before_seq: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """A player's rows by column, newest first, from below `before_seq` on (None: all)."""
        records = await self._read(
            """
            SELECT l.action_id::text, l.kind, l.origin_id::text, l.action_type, l.points,
                   l.old_score, l.new_score, l.version, l.seq,
                   (extract(epoch FROM l.at) * 1000)::bigint AS at_ms
            FROM scores.ledger l
            WHERE l.user_id = $1 AND l.seq < coalesce($2, 9223372036854775807)
            ORDER BY l.seq DESC LIMIT $3
            """,
            user_id,
            before_seq,
            limit,
        )
        return [dict(record) for record in records]


class SnapshotStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def take(self, period: Period, *, limit: int) -> Snapshot | None:
        """The first `limit` rows; None: the period is closed."""
        records = await self._fetch(
            _SNAPSHOT,
            period.board.name,
            period.start_ms,
            -1 if period.board.descending else 1,
            limit,
            clock.offset(),
        )
        if not records:
            return None
        # A board without players returns one row, which has none.
        rows = [
            SnapshotRow(
                user_id=r["user_id"],
                username=r["username"],
                score=r["score"],
                seq=r["seq"],
                at_ms=r["at_ms"],
                version=r["version"],
            )
            for r in records
            if r["user_id"] is not None
        ]
        first = records[0]
        return Snapshot(rows, first["total"], first["now_ms"], first["updated_at_ms"] or 0)

    async def oldest_unpublished_ms(self) -> int | None:
        """The time of the oldest change that is not published to the boards (Unix ms)."""
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
