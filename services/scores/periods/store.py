"""The closing of periods in Postgres: final tables frozen, sealed, published, and recomputed."""

import hashlib
import hmac
from dataclasses import dataclass

from asyncpg.pool import PoolConnectionProxy

from chassis import clock
from chassis.keyring import Keyring
from chassis.postgres import Database
from services.scores.boards.ranking import Seal
from services.scores.boards.rules import period_id

ROWS_AT_ONCE = 5000
# A table of millions of players takes its time; awards go on beside it.
CLOSE_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A period that has ended."""

    board: str
    start_ms: int
    end_ms: int

    @property
    def id(self) -> str:
        """As `period_id` has it."""
        return period_id(self.start_ms, self.end_ms)


@dataclass(frozen=True, kw_only=True)
class Due(Ended):
    """A period that is not closed yet."""

    overdue_s: float


@dataclass(frozen=True, kw_only=True)
class Closed(Ended, Seal):
    """A closed period with its seal, and how many players its final table has."""

    players: int


class ClosingStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database, keys: Keyring) -> None:
        """`keys` sign: a seal is the HMAC-SHA-256 of a table's hash with the current one."""
        self._database = database
        self._fetch = database.fetch
        self._keys = keys

    async def due(self) -> list[Due]:
        """What has ended by the database's clock and is not closed, oldest first."""
        records = await self._fetch(
            """
            SELECT p.board, p.period AS start_ms,
                   (extract(epoch FROM p.ends) * 1000)::bigint AS end_ms,
                   extract(epoch FROM clock_timestamp() + $1 - p.ends)::float8 AS overdue_s
            FROM scores.periods p
            WHERE p.closed_at IS NULL AND p.ends <= clock_timestamp() + $1
            ORDER BY p.ends, p.board
            """,
            clock.offset(),
        )
        return [Due(**record) for record in records]

    async def barrier(self) -> None:
        """Returns once no award can be written any more with a time before the present.

        Raises StatementUndone when that takes more than half a second: awards
        wait meanwhile.
        """
        await self._fetch("SELECT scores.barrier()")

    async def close(self, due: Due) -> Closed | None:
        """Freezes and seals the final table of a period whose end a barrier followed.

        One transaction; None when it is closed already. Raises StatementUndone when
        voids or another closer hold it up for more than five seconds.
        """
        at = due.board, due.start_ms
        async with self._database.transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            frozen = await connection.fetchrow(_FREEZE, *at, clock.offset(), timeout=CLOSE_S)
            if frozen is None:
                return None
            table, key_id = await _hashed(connection, _FINALS, due), self._keys.current
            seal = table, hmac.digest(self._keys[key_id], table, "sha256"), key_id
            await connection.execute(_SEAL, *at, clock.offset(), *frozen, *seal)
            (record,) = await connection.fetch(f"{CLOSED} AND p.board = $1 AND p.period = $2", *at)
        return Closed(**record)

    async def unpublished(self) -> list[Closed]:
        """The closed periods whose closing is not in the event stream, oldest first."""
        return await self._closed("NOT p.published")

    async def mark_published(self, closed: Closed) -> None:
        """Its closing is in the event stream."""
        await self._fetch(
            "UPDATE scores.periods SET published = true WHERE board = $1 AND period = $2",
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

    def signed(self, closed: Closed) -> bool:
        """Whether the signature is ours. Raises KeyError when the ring lacks the key."""
        ours = hmac.digest(self._keys[closed.key_id], closed.hash, "sha256")
        return hmac.compare_digest(ours, closed.signature)

    async def sweep(self, *, since_s: float, limit: int = ROWS_AT_ONCE) -> int:
        """Deletes at most `limit` standings of each period closed in the last `since_s`.

        Its final table has what they had. Returns how many were deleted.
        """
        (row,) = await self._fetch(_SWEEP, clock.offset(), since_s, limit)
        return int(row["rows"])

    async def _closed(self, where: str, *arguments: str | None) -> list[Closed]:
        records = await self._fetch(f"{CLOSED} AND {where} ORDER BY p.ends, p.board", *arguments)
        return [Closed(**record) for record in records]

    async def _hash(self, rows: str, closed: Closed) -> bytes:
        async with self._database.transaction() as connection:
            return await _hashed(connection, rows, closed)


# The closed periods, each with the fields of `Closed`.
CLOSED = """
    SELECT p.board, p.period AS start_ms, (extract(epoch FROM p.ends) * 1000)::bigint AS end_ms,
           (extract(epoch FROM p.closed_at) * 1000)::bigint AS closed_at_ms, p.players, p.hash,
           p.signature, p.key_id
    FROM scores.periods p WHERE p.closed_at IS NOT NULL
"""
_FREEZE = "SELECT f.players, f.seq_upto FROM scores.freeze($1, $2, $3) AS f"
_SEAL = """
    UPDATE scores.periods
       SET closed_at = date_trunc('milliseconds', clock_timestamp() + $3), players = $4,
           seq_upto = $5, hash = $6, signature = $7, key_id = $8
     WHERE board = $1 AND period = $2
"""
_SWEEP = """
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


async def _hashed(connection: PoolConnectionProxy, rows: str, period: Ended) -> bytes:
    """SHA-256 over a final table: a header, its rows in their order, then who was left out.

    Each a line in UTF-8 that ends with a line feed, its parts separated by tabs:
    `final.v1 board period`, `position userId score seq reachedAtMs`, `left_out userId`.
    """
    sha = hashlib.sha256(f"final.v1\t{period.board}\t{period.id}\n".encode())
    for sql in (rows, _LEFT_OUT):
        cursor = await connection.cursor(sql, period.board, period.start_ms, timeout=CLOSE_S)
        while records := await cursor.fetch(ROWS_AT_ONCE, timeout=CLOSE_S):
            sha.update("".join(f"{record['line']}\n" for record in records).encode())
    return sha.digest()
