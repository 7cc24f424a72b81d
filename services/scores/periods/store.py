"""The closing of periods in Postgres: final tables frozen, sealed, published, and recomputed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from asyncpg.pool import PoolConnectionProxy

from chassis import clock
from chassis.postgres import Database
from services.scores.boards.rules import period_id
from services.scores.periods.seals import Seals, TableHash

ROWS_AT_ONCE = 5000
# A table of millions of players takes its time; awards go on beside it.
CLOSE_S = 900.0


@dataclass(frozen=True, slots=True)
class Due:
    """A period that has ended and is not closed."""

    board: str
    start_ms: int
    id: str
    overdue_s: float


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed period and the seal of its final table."""

    board: str
    start_ms: int
    id: str
    closed_at_ms: int
    players: int
    hash: bytes
    signature: bytes
    key_id: int


class ClosingStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database, seals: Seals) -> None:
        self._database = database
        self._fetch = database.fetch
        self._seals = seals

    async def due(self) -> list[Due]:
        """What has ended by the database's clock and is not closed, oldest first."""
        records = await self._fetch(
            """
            SELECT p.board, p.period, (extract(epoch FROM p.ends) * 1000)::bigint AS end_ms,
                   extract(epoch FROM clock_timestamp() + $1 - p.ends)::float8 AS overdue_s
            FROM scores.periods p
            WHERE p.closed_at IS NULL AND p.ends <= clock_timestamp() + $1
            ORDER BY p.ends, p.board
            """,
            clock.offset(),
        )
        return [
            Due(
                board=r["board"],
                start_ms=r["period"],
                id=period_id(r["period"], r["end_ms"]),
                overdue_s=r["overdue_s"],
            )
            for r in records
        ]

    async def barrier(self) -> None:
        """Returns once no award can be written any more with a time before the present.

        Raises asyncpg.LockNotAvailableError when that takes more than half a second: awards
        wait meanwhile.
        """
        await self._fetch("SELECT scores.barrier()")

    async def close(self, due: Due) -> Closed | None:
        """Freezes and seals the final table of a period whose end a barrier followed.

        One transaction; None when it is closed already. Raises asyncpg.LockNotAvailableError
        when voids or another closer hold it up for more than five seconds.
        """
        async with self._database.transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            frozen = await connection.fetchrow(
                "SELECT f.players, f.seq_upto FROM scores.freeze($1, $2, $3) AS f",
                due.board,
                due.start_ms,
                clock.offset(),
                timeout=CLOSE_S,
            )
            if frozen is None:
                return None
            table = await _hashed(connection, _FINALS, due)
            key_id, signature = self._seals.sign(table)
            (at_ms,) = await connection.fetchrow(
                """
                UPDATE scores.periods
                   SET closed_at = date_trunc('milliseconds', clock_timestamp() + $3), players = $4,
                       seq_upto = $5, hash = $6, signature = $7, key_id = $8
                 WHERE board = $1 AND period = $2
                RETURNING (extract(epoch FROM closed_at) * 1000)::bigint AS at_ms
                """,
                due.board,
                due.start_ms,
                clock.offset(),
                frozen["players"],
                frozen["seq_upto"],
                table,
                signature,
                key_id,
            ) or (0,)
        return Closed(
            board=due.board,
            start_ms=due.start_ms,
            id=due.id,
            closed_at_ms=at_ms,
            players=frozen["players"],
            hash=table,
            signature=signature,
            key_id=key_id,
        )

    async def unpublished(self) -> list[Closed]:
        """The closed periods whose closing is not in the event stream, oldest first."""
        return await self._closed("NOT p.told")

    async def mark_published(self, closed: Closed) -> None:
        """Its closing is in the event stream."""
        await self._fetch(
            "UPDATE scores.periods SET told = true WHERE board = $1 AND period = $2",
            closed.board,
            closed.start_ms,
        )

    async def closed(self, board: str | None = None) -> list[Closed]:
        """Every closed period, or those of one board, oldest first."""
        return await self._closed("p.board = coalesce($1, p.board)", board)

    async def table_hash(self, closed: Closed) -> bytes:
        """The hash of a closed period's final table as it is kept."""
        return await self._hash(_FINALS, closed)

    async def ledger_hash(self, closed: Closed) -> bytes:
        """The hash of a closed period's final table as the ledger alone gives it."""
        return await self._hash(_LEDGER, closed)

    async def sweep(self, *, since_s: float, limit: int = ROWS_AT_ONCE) -> int:
        """Deletes at most `limit` standings of each period closed in the last `since_s`.

        Its final table has what they had. Returns how many were deleted.
        """
        (row,) = await self._fetch(
            """
            WITH deleted AS (
              DELETE FROM scores.standings s
              USING scores.periods p
              CROSS JOIN LATERAL (
                SELECT k.user_id FROM scores.standings k
                WHERE k.board = p.board AND k.period = p.period
                LIMIT $3 FOR UPDATE SKIP LOCKED) k
              WHERE p.closed_at > clock_timestamp() + $1 - make_interval(secs => $2)
                AND s.board = p.board AND s.period = p.period AND s.user_id = k.user_id
              RETURNING s.user_id
            )
            SELECT count(*) AS rows FROM deleted
            """,
            clock.offset(),
            since_s,
            limit,
        )
        return int(row["rows"])

    async def _closed(self, where: str, *arguments: str | None) -> list[Closed]:
        records = await self._fetch(f"{_CLOSED} AND {where} ORDER BY p.ends, p.board", *arguments)
        return [
            Closed(
                board=r["board"],
                start_ms=r["period"],
                id=period_id(r["period"], r["end_ms"]),
                closed_at_ms=r["closed_at_ms"],
                players=r["players"],
                hash=r["hash"],
                signature=r["signature"],
                key_id=r["key_id"],
            )
            for r in records
        ]

    async def _hash(self, rows: str, closed: Closed) -> bytes:
        async with self._database.transaction() as connection:
            return await _hashed(connection, rows, closed)


_CLOSED = """
    SELECT p.board, p.period, (extract(epoch FROM p.ends) * 1000)::bigint AS end_ms,
           (extract(epoch FROM p.closed_at) * 1000)::bigint AS closed_at_ms, p.players, p.hash,
           p.signature, p.key_id
    FROM scores.periods p WHERE p.closed_at IS NOT NULL
"""
# Each returns the lines of a table, as the hash takes them.
_FINALS = r"""
    SELECT concat_ws(E'\t', f.position, f.user_id, f.score, f.seq,
                     (extract(epoch FROM f.reached_at) * 1000)::bigint) AS line
    FROM scores.finals f WHERE f.board = $1 AND f.period = $2 ORDER BY f.position
"""
_LEDGER = r"""
    SELECT concat_ws(E'\t', f.place, f.user_id, f.score, f.seq,
                     (extract(epoch FROM f.reached_at) * 1000)::bigint) AS line
    FROM scores.final($1, $2) AS f ORDER BY f.place
"""
_LEFT_OUT = r"""
    SELECT concat_ws(E'\t', 'left_out', o.user_id) AS line FROM scores.left_out o
    WHERE o.board = $1 AND o.period = $2 ORDER BY o.user_id
"""


async def _hashed(connection: PoolConnectionProxy, rows: str, period: Due | Closed) -> bytes:
    table = TableHash(period.board, period.id)
    for sql in (rows, _LEFT_OUT):
        async for lines in _streamed(connection, sql, period.board, period.start_ms):
            table.add(lines)
    return table.digest()


async def _streamed(
    connection: PoolConnectionProxy, sql: str, board: str, period: int
) -> AsyncIterator[list[str]]:
    cursor = await connection.cursor(sql, board, period, timeout=CLOSE_S)
    while records := await cursor.fetch(ROWS_AT_ONCE, timeout=CLOSE_S):
        yield [record["line"] for record in records]
