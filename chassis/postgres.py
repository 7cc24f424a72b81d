"""Postgres: the pool, and migrations that several replicas may start at once."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chassis.errors import Unavailable
from chassis.telemetry import log

T = TypeVar("T")


class DbUnavailable(Unavailable):
    """The database is away."""


class SchemaBehind(Exception):
    """The database's schema is older than this code needs."""


# What asyncpg raises when the server is away, going or full.
AWAY = (
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
async def open_pool(
    url: str, *, size_max: int = 8, command_timeout_s: float = 10.0
) -> AsyncIterator[asyncpg.Pool]:
    """A pool of connections, closed with the context; waits up to 30 s for the server.

    Nothing may be left in a session beyond its transaction (no SET, LISTEN or advisory lock):
    a connection is given to the next user as it is.
    """
    pool = await _when_there(
        lambda: asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size_max,
            command_timeout=command_timeout_s,
            timeout=5,
            reset=_as_it_is,
        )
    )
    try:
        yield pool
    finally:
        # Connections still in use after 5 s are of requests that nobody waits for.
        try:
            async with asyncio.timeout(5):
                await pool.close()
        except TimeoutError:
            pool.terminate()


class Database:
    """A pool whose users hear that the server is away by one failure, DbUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """Returns when Postgres answers."""
        await self.fetch("SELECT 1")

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement."""
        try:
            return await self._pool.fetch(sql, *arguments)
        except AWAY as error:
            raise DbUnavailable from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy]:
        """A transaction of several statements: committed with the context, unless it raises."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection
        except AWAY as error:
            raise DbUnavailable from error


async def migrate(url: str, *, schema: str, folder: Path) -> int:
    """Brings `schema` up to the newest of `folder`'s `NNNN_name.sql` files; answers its number.

    Each file runs once, in a transaction of its own, under an advisory lock, so that
    replicas may start together. A file that was applied must not change afterwards:
    raises SchemaBehind naming it.
    """
    connection = await _when_there(lambda: asyncpg.connect(url, timeout=5))
    try:
        lock = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:8], "big", signed=True)
        await connection.execute("SELECT pg_advisory_lock($1)", lock)
        await connection.execute(_in(schema, _CREATE))
        rows = await connection.fetch(_in(schema, "SELECT number, sha256 FROM $.migrations"))
        applied = {row["number"]: row["sha256"] for row in rows}
        newest = 0
        for number, path in _files(folder):
            newest = number
            text = path.read_text()
            digest = hashlib.sha256(text.encode()).hexdigest()
            if number not in applied:
                async with connection.transaction():
                    await connection.execute(text)
                    await connection.execute(_in(schema, _APPLIED), number, digest)
                log.info("migrated", schema=schema, file=path.name)
            elif applied[number] != digest:
                raise SchemaBehind(f"{path.name} was changed after it had been applied")
        return newest
    finally:
        await connection.close()


async def expect_schema(pool: asyncpg.Pool, *, schema: str, folder: Path) -> None:
    """Raises SchemaBehind unless every file of `folder` has been applied."""
    needed = max(number for number, _ in _files(folder))
    try:
        there = await pool.fetchval(_in(schema, "SELECT max(number) FROM $.migrations"))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        there = None
    if (there or 0) < needed:
        raise SchemaBehind(f"schema {schema} is at {there or 0}, this code needs {needed}: migrate")


def _files(folder: Path) -> list[tuple[int, Path]]:
    return [(int(path.name[:4]), path) for path in sorted(folder.glob("[0-9]*_*.sql"))]


_CREATE = """
    CREATE SCHEMA IF NOT EXISTS $;
    CREATE TABLE IF NOT EXISTS $.migrations (
      number int PRIMARY KEY, sha256 text NOT NULL, at timestamptz NOT NULL DEFAULT now()
    )
"""
_APPLIED = "INSERT INTO $.migrations (number, sha256) VALUES ($1, $2)"


def _in(schema: str, statement: str) -> str:
    """The statement with `schema` for each bare `$`.

    An identifier cannot be a parameter; this is the only place where one is put into SQL.
    """
    if not re.fullmatch(r"[a-z_]{1,63}", schema):
        raise ValueError(f"not a schema's name: {schema!r}")
    return re.sub(r"\$(?!\d)", schema, statement)


async def _as_it_is(connection: asyncpg.Connection) -> None:
    """Instead of asyncpg's reset of a session, which is one more round trip for every use.

    A transaction that a cancelled caller left open is ended by asyncpg all the same.
    """


async def _when_there(connect: Callable[[], Awaitable[T]]) -> T:
    for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3, 3, 3, 3, 3, 3, 3, 3):
        try:
            return await connect()
        except AWAY as error:
            log.warning("postgres_awaited", error=repr(error))
            await asyncio.sleep(pause_s)
    return await connect()
