"""A Postgres that answers but refuses writes: unavailable, and used again once it takes them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import asyncpg
import pytest

from chassis.postgres import Database, DbUnavailable, open_database, open_pool

NewDatabase = Callable[[], Awaitable[str]]
SIZE = 4
WRITE = "INSERT INTO notes VALUES (1)"


class Store:
    """A database of one test, by the code's pool and by an administrator's connection."""

    def __init__(self, url: str, pool: asyncpg.Pool, admin: asyncpg.Connection) -> None:
        self.url = url
        self.pool = pool
        self.database = Database(pool)
        self._name = urlsplit(url).path[1:]
        self._admin = admin

    async def refuse_writes(self) -> None:
        """As after a failover: sessions are lost, and new ones are read-only."""
        await self._admin.execute(
            f"ALTER DATABASE {self._name} SET default_transaction_read_only = on"
        )
        await self._admin.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = $1 AND pid <> pg_backend_pid()",
            self._name,
        )

    async def take_writes(self) -> None:
        """New sessions write; those that were opened meanwhile stay read-only for good."""
        await self._admin.execute(
            f"ALTER DATABASE {self._name} RESET default_transaction_read_only"
        )

    async def pids(self) -> set[int]:
        """The server's processes of all connections of the pool."""
        everyone = asyncio.Barrier(SIZE)

        async def pid() -> int:
            async with self.pool.acquire() as connection:
                await everyone.wait()
                return int(await connection.fetchval("SELECT pg_backend_pid()"))

        return set(await asyncio.gather(*(pid() for _ in range(SIZE))))


@pytest.fixture
async def store(new_database: NewDatabase) -> AsyncIterator[Store]:
    url = await new_database()
    admin = await asyncpg.connect(url)
    await admin.execute("CREATE TABLE notes (value int)")
    await admin.execute(
        "CREATE FUNCTION fail(code text) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'as wanted' USING ERRCODE = code; END $$"
    )
    async with open_pool(url, size_max=SIZE) as pool:
        yield Store(url, pool, admin)
    await admin.close()


async def test_after_a_read_only_time_every_connection_writes_at_once(store: Store) -> None:
    await store.pids()
    await store.refuse_writes()
    # More than there are connections, so that each is made again meanwhile.
    refused = [
        await asyncio.gather(
            *(store.database.fetch(WRITE) for _ in range(SIZE)), return_exceptions=True
        )
        for _ in range(3)
    ]
    await store.take_writes()

    assert {type(one) for each in refused for one in each} == {DbUnavailable}
    for _ in range(3):
        await asyncio.gather(*(store.database.fetch(WRITE) for _ in range(SIZE)))


@pytest.mark.parametrize("sqlstate", ["25006", "57P01", "57P02", "57P03", "57P04"])
async def test_all_sessions_of_a_server_that_will_not_serve_are_dropped(
    store: Store, sqlstate: str
) -> None:
    before = await store.pids()

    with pytest.raises(DbUnavailable):
        await store.database.fetch("SELECT fail($1)", sqlstate)

    assert not before & await store.pids()


async def test_a_transaction_that_meets_a_read_only_session_drops_all_of_them(
    store: Store,
) -> None:
    before = await store.pids()

    async def write() -> None:
        async with store.database.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute(WRITE)

    with pytest.raises(DbUnavailable):
        await write()

    assert not before & await store.pids()


@pytest.mark.parametrize("sqlstate", ["53100", "53300", "23505", "40P01", "57014"])
async def test_an_error_of_one_statement_drops_no_session(store: Store, sqlstate: str) -> None:
    before = await store.pids()

    with pytest.raises((DbUnavailable, asyncpg.PostgresError)):
        await store.database.fetch("SELECT fail($1)", sqlstate)

    assert await store.pids() == before


async def test_a_ping_fails_on_a_read_only_session_and_keeps_none(store: Store) -> None:
    await store.database.ping()
    async with asyncio.TaskGroup() as tasks:
        everyone = asyncio.Barrier(SIZE)

        async def make_read_only() -> None:
            async with store.pool.acquire() as connection:
                await everyone.wait()
                await connection.execute("SET default_transaction_read_only = on")

        for _ in range(SIZE):
            tasks.create_task(make_read_only())
    before = await store.pids()

    with pytest.raises(DbUnavailable):
        await store.database.ping()

    await store.database.ping()
    assert not before & await store.pids()


async def test_a_database_is_opened_once_it_takes_writes(store: Store) -> None:
    await store.refuse_writes()
    opened = asyncio.Event()

    async def write() -> None:
        async with open_database(store.url) as database:
            opened.set()
            await database.fetch(WRITE)

    task = asyncio.create_task(write())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(opened.wait(), 0.3)
    await store.take_writes()
    await asyncio.wait_for(task, 10)
