"""A standby takes over: of the hosts of one URL, or at the one address, it is found and used."""

import asyncio
import os
import signal
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from chassis.postgres import Database, DbUnavailable, open_database
from chassis.testing import eventually
from local.servers.embedded import Server
from tests.faults import standby

RECOVERED_S = 5.0


@pytest.fixture
def pair(missing: standby.Missing) -> Iterator[standby.Pair]:
    with standby.primary_and_standby(missing) as servers:
        yield servers


def of(*servers: Server) -> str:
    """A URL of all of them, in that order."""
    folders = [parse_qs(urlsplit(server.url).query)["host"][0] for server in servers]
    ports = ",".join("5432" for _ in servers)
    return f"postgresql://scoreboard@/postgres?host={quote(','.join(folders))}&port={ports}"


async def promote(server: Server) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.fetchval("SELECT pg_promote()")
    await connection.close()


async def written(database: Database) -> bool:
    """Whether a write succeeds."""
    try:
        await database.fetch("CREATE TABLE IF NOT EXISTS notes (value int)")
        await database.fetch("INSERT INTO notes VALUES (1)")
        await database.ping()
    except DbUnavailable:
        return False
    return True


async def test_of_several_hosts_the_one_that_takes_writes_is_used_before_and_after_a_failover(
    pair: standby.Pair,
) -> None:
    primary, replica = pair
    async with open_database(of(replica, primary)) as database:
        assert await written(database)

        os.kill(primary.process.pid, signal.SIGQUIT)
        primary.process.wait(20)
        assert not await written(database)
        await promote(replica)

        await eventually(lambda: written(database), timeout_s=RECOVERED_S)


async def test_at_one_address_a_standby_is_awaited_until_it_is_promoted(
    pair: standby.Pair,
) -> None:
    _, replica = pair
    opened = asyncio.Event()

    async def write() -> bool:
        async with open_database(replica.url) as database:
            opened.set()
            return await written(database)

    writing = asyncio.create_task(write())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(opened.wait(), 0.3)
    await promote(replica)

    assert await asyncio.wait_for(writing, 10)
