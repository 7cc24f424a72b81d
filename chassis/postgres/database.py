"""The one access object to Postgres, over a pool of sessions that can write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy

from chassis.postgres.errors import (
    SERVER_LOST,
    UNAVAILABLE,
    UNDONE,
    DbUnavailable,
    StatementUndone,
)
from chassis.postgres.use import PoolUse
from chassis.process import when_reached
from chassis.telemetry import log

ACQUIRE_S = 5.0  # how long a caller waits for a connection
CONNECT_S = 5.0
# Of the URL's hosts the first that takes writes is used. One that does not may be a demoted
# primary, so that what is read there may be old.
_WRITES = SessionAttribute.read_write


async def connect(url: str) -> asyncpg.Connection:
    """A connection that can write, for the caller alone; waits up to 30 s for the server.

    Raises what UNAVAILABLE lists.
    """
    return await when_reached(
        lambda: asyncpg.connect(url, timeout=CONNECT_S, target_session_attrs=_WRITES),
        UNAVAILABLE,
        "postgres_awaited",
    )


@asynccontextmanager
async def open_database(url: str, *, connections_max: int = 8) -> AsyncIterator["Database"]:
    """A database over a pool of connections, closed with the context.

    Waits up to 30 s for the server.
    """
    async with open_pool(url, size_max=connections_max) as pool:
        yield Database(pool)


@asynccontextmanager
async def open_pool(url: str, *, size_max: int = 8) -> AsyncIterator[asyncpg.Pool]:
    """A pool of connections that can write, closed with the context; waits up to 30 s for the
    server.

    Nothing may be left in a session beyond its transaction (no SET, LISTEN or advisory lock):
    a connection is given to the next user as it is.
    """
    pool = await when_reached(
        lambda: asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size_max,
            command_timeout=10,
            timeout=CONNECT_S,
            target_session_attrs=_WRITES,
            reset=_as_it_is,
        ),
        UNAVAILABLE,
        "postgres_awaited",
    )
    try:
        yield pool
    finally:
        # Connections still in use after 5 s are of requests that no one waits for.
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


class Database:
    """Statements and transactions.

    Every method may raise DbUnavailable, and StatementUndone of a statement that may be run
    again; other errors pass.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._use = PoolUse(pool, "primary")

    async def ping(self) -> None:
        """Returns when Postgres takes writes."""
        ((refuses,),) = await self.fetch("SELECT current_setting('transaction_read_only') = 'on'")
        if refuses:
            raise await self._failure(asyncpg.ReadOnlySQLTransactionError("found by a ping"))

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement."""
        try:
            async with self._use.acquire(timeout_s=None) as connection:
                return await connection.fetch(sql, *arguments)
        except UNAVAILABLE as error:
            raise await self._failure(error) from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy]:
        """A connection for several statements; each is a transaction of its own."""
        try:
            async with self._use.acquire(timeout_s=ACQUIRE_S) as connection:
                yield connection
        except UNAVAILABLE as error:
            raise await self._failure(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy]:
        """A transaction of several statements: committed with the context, unless it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def _failure(self, error: Exception) -> DbUnavailable:
        if isinstance(error, UNDONE):
            return StatementUndone()
        if isinstance(error, SERVER_LOST):
            # Idle connections go at their next use, those in use as it ends.
            await self._pool.expire_connections()
            log.warning("postgres_connections_dropped", error=repr(error))
        return DbUnavailable()


async def _as_it_is(connection: asyncpg.Connection) -> None:
    """Replaces asyncpg's reset of a session, which is one more round trip for every use.

    A transaction that a cancelled caller left open is ended by asyncpg all the same.
    """
