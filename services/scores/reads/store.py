"""What is read from Postgres: snapshots of open boards, and players' histories."""

from asyncpg import Record

from chassis import clock
from chassis.postgres import Database
from chassis.postgres.replica import Reader
from services.scores.boards.events import LATE_KEPT_DAYS
from services.scores.boards.rules import Period

# Between a change's time and its publication, where no late one is recorded: a transaction takes
# seconds, publication some more, and the clocks of Redis and Postgres differ.
OVERLAP_S = 600.0


class HistoryStore:
    """A player's own ledger, from `reader`: possibly some seconds old."""

    def __init__(self, reader: Reader) -> None:
        self._read = reader.fetch

    async def history(self, user_id: str, *, before_seq: int | None, limit: int) -> list[Record]:
        """A player's rows, newest first, from below `before_seq` on (None: all).

        Raises DbUnavailable.
        """
        return await self._read(_HISTORY, user_id, before_seq, limit)


class ChangesStore:
    """The ledger in the order of time. Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def begin(self, since_ms: int) -> int:
        """From when on (Unix ms) rows are to be read for all that was published since."""
        sql = """
            SELECT (extract(epoch FROM scores.changes_from(to_timestamp($1::bigint / 1000.0),
                    make_interval(secs => $2), make_interval(secs => $3), $4)) * 1000)::bigint"""
        ((at_ms,),) = await self._fetch(
            sql, since_ms, OVERLAP_S, LATE_KEPT_DAYS * 86400, clock.offset()
        )
        return int(at_ms)

    async def after(self, at_ms: int, seq: int, *, limit: int) -> list[Record]:
        """Rows behind that time and sequence, oldest first; fewer than `limit`: the last ones."""
        sql = """
            SELECT c.kind, c.event_id::text, c.origin_id::text, c.seq, c.user_id::text, c.username,
                   c.version, c.action_type, c.points, c.old_score, c.new_score, c.at_ms, c.hidden
            FROM scores.changes(to_timestamp($1::bigint / 1000.0), $2, $3, $4) c
            ORDER BY c.at_ms, c.seq"""
        return await self._fetch(sql, at_ms, seq, limit, clock.offset())


class SnapshotStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def take(self, period: Period, *, limit: int) -> list[Record]:
        """The first `limit` players of a board and period, in its order; none: it is closed.

        Each row also has the whole board's `total` and `updated_at_ms`, and `now_ms`: the snapshot
        has all that was committed before. A board without players has one row, of no user.
        """
        board, sign = period.board.name, -1 if period.board.descending else 1
        return await self._fetch(_SNAPSHOT, board, period.start_ms, sign, limit, clock.offset())

    async def oldest_unpublished_ms(self) -> int | None:
        """The time of the oldest change that is not published to the boards (Unix ms)."""
        (record,) = await self._fetch(
            "SELECT (extract(epoch FROM min(o.at)) * 1000)::bigint AS at_ms"
            " FROM scores.outbox o WHERE NOT o.published"
        )
        at_ms: int | None = record["at_ms"]
        return at_ms


_HISTORY = """
    SELECT l.action_id::text, l.kind, l.origin_id::text, l.action_type, l.points, l.old_score,
           l.new_score, l.version, l.seq, (extract(epoch FROM l.at) * 1000)::bigint AS at_ms
    FROM scores.ledger l
    WHERE l.user_id = $1 AND l.seq < coalesce($2, 9223372036854775807) AND l.kind <> 'given_up'
    ORDER BY l.seq DESC LIMIT $3
"""
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
