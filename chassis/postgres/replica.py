"""A read replica of Postgres: read while it is fresh enough, else the primary is."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from prometheus_client import Counter

from chassis.postgres.database import Database
from chassis.postgres.errors import UNAVAILABLE, DbUnavailable
from chassis.postgres.use import PoolUse
from chassis.process import background
from chassis.telemetry import log

LOOK_S = 0.5
NOTED_S = 600.0  # a replica further behind is not read anyway
ANSWER_S = 5.0
CONNECTIONS_MAX = 4

reads = Counter("postgres_replica_reads_total", "Reads a replica may serve, by who did", ["server"])
_by_replica, _by_primary = reads.labels("replica"), reads.labels("primary")

# Reads by `fetch` that may be some seconds old.
Reader: TypeAlias = "Database | Replica"


@asynccontextmanager
async def open_reader(
    primary: Database, replica_url: str, *, lag_max_s: float
) -> AsyncIterator[Reader]:
    """Reads from the replica while it is at most `lag_max_s` behind; without a URL, the primary.

    Waits for no replica: the primary serves until it is there.
    """
    if not replica_url:
        yield primary
        return
    # Of any server, read-only ones among them.
    async with asyncpg.create_pool(
        replica_url, min_size=0, max_size=CONNECTIONS_MAX, timeout=2, command_timeout=ANSWER_S
    ) as pool:
        replica = Replica(primary, pool, lag_max_s=lag_max_s)
        async with background(replica.follow()):
            yield replica


class Replica:
    """Measures how old the replica's data can be.

    The primary's position in its log is noted with the time; once the replica has replayed up to
    there, it is no older than that note. So a replica that lost its primary, or whose replay is
    paused, is known as old, where its own figures would call it up to date.
    """

    def __init__(self, primary: Database, pool: asyncpg.Pool, *, lag_max_s: float) -> None:
        self._primary = primary
        self._use = PoolUse(pool, "replica")
        self._lag_max_s = lag_max_s
        self._notes: deque[tuple[int, float]] = deque(maxlen=round(NOTED_S / LOOK_S))
        self._seen_at = float("-inf")  # what the replica has is no older

    @property
    def fresh(self) -> bool:
        """Whether the replica is read."""
        return asyncio.get_running_loop().time() - self._seen_at <= self._lag_max_s

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement that writes nothing. Raises DbUnavailable."""
        if self.fresh:
            try:
                rows = await self._fetch(sql, *arguments)
            except (*UNAVAILABLE, TimeoutError) as error:
                # Lost, or cancelled there because it stood in the way of the replay.
                self._seen_at = float("-inf")
                log.warning("replica_failed", error=repr(error))
            else:
                _by_replica.inc()
                return rows
        _by_primary.inc()
        return await self._primary.fetch(sql, *arguments)

    async def look(self) -> None:
        """Learns how old the replica's data can be. Raises what the servers raise."""
        at = asyncio.get_running_loop().time()
        (row,) = await self._primary.fetch(
            "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS position"
        )
        self._notes.append((row["position"], at))
        ((replayed,),) = await self._fetch(
            "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint"
        )
        # Null where it is none, such as a replica that was promoted.
        while self._notes and replayed is not None and self._notes[0][0] <= replayed:
            _, self._seen_at = self._notes.popleft()

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._use.acquire(timeout_s=ANSWER_S) as connection:
            return await connection.fetch(sql, *arguments)

    async def follow(self) -> None:
        """Looks forever."""
        fresh = False
        while True:
            try:
                await self.look()
            except (DbUnavailable, *UNAVAILABLE, TimeoutError, asyncpg.PostgresError) as error:
                log.warning("replica_not_seen", error=repr(error))
            if self.fresh != fresh:
                fresh = self.fresh
                log.info("replica_changed", fresh=fresh)
            await asyncio.sleep(LOOK_S)
