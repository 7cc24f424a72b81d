"""The one access object to Postgres, over a pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chassis.errors import Unavailable
from chassis.process import when_reached

ACQUIRE_S = 5.0  # how long a caller waits for a connection


class DbUnavailable(Unavailable):
    """The database is unavailable."""


# What asyncpg raises when the server is down, stopping or full.
UNAVAILABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a replica that is not promoted yet
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
    """A pool of connections, closed with the context; waits up to 30 s for the server.

    Nothing may be left in a session beyond its transaction (no SET, LISTEN or advisory lock):
    a connection is given to the next user as it is.
    """
    pool = await when_reached(
        lambda: asyncpg.create_pool(
            url, min_size=1, max_size=size_max, command_timeout=10, timeout=5, reset=_as_it_is
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
    """Statements and transactions. Every method may raise DbUnavailable; other errors pass."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """Returns when Postgres answers."""
        await self.fetch("SELECT 1")

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement."""
        try:
            return await self._pool.fetch(sql, *arguments)
        except UNAVAILABLE as error:
            raise DbUnavailable from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy]:
        """A connection for several statements; each is a transaction of its own."""
        try:
            async with self._pool.acquire(timeout=ACQUIRE_S) as connection:
                yield connection
        except UNAVAILABLE as error:
            raise DbUnavailable from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy]:
        """A transaction of several statements: committed with the context, unless it raises."""
        async with self.connection() as connection, connection.transaction():
            yield connection


async def _as_it_is(connection: asyncpg.Connection) -> None:
    """Replaces asyncpg's reset of a session, which is one more round trip for every use.

    A transaction that a cancelled caller left open is ended by asyncpg all the same.
    """
