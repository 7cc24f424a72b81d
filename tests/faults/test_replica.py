"""A read replica: used while it is fresh, and never when it is behind, paused or unavailable."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import asyncpg
import pytest

from chassis.postgres import Database, open_pool
from chassis.postgres.replica import Replica, open_reader
from chassis.testing import eventually
from tests.faults import standby

LAG_MAX_S = 1.5


@dataclass
class Pair:
    """A primary, its streaming replica, and the reader in front of both."""

    primary: Database
    standby: asyncpg.Pool
    process: "subprocess.Popen[bytes]"
    reader: Replica

    async def write(self, value: int) -> None:
        await self.primary.fetch("UPDATE notes SET value = $1", value)

    async def read(self) -> tuple[int, str]:
        """The value, and who returned it."""
        (row,) = await self.reader.fetch(
            "SELECT value, CASE WHEN pg_is_in_recovery() THEN 'replica' ELSE 'primary' END AS who"
            " FROM notes"
        )
        return row["value"], row["who"]

    async def reads(self, *expected: object) -> None:
        async def read() -> bool:
            assert await self.read() == expected
            return True

        await eventually(read)


@pytest.fixture(scope="module")
def servers_pair(missing: standby.Missing) -> Iterator[standby.Pair]:
    with standby.primary_and_standby(missing) as pair:
        yield pair


@pytest.fixture
async def pair(
    servers_pair: standby.Pair,
) -> AsyncIterator[Pair]:
    primary, replica = servers_pair
    async with (
        open_pool(primary.url, size_max=2) as pool,
        asyncpg.create_pool(replica.url, min_size=1, max_size=2) as reads,
        open_reader(Database(pool), replica.url, lag_max_s=LAG_MAX_S) as reader,
    ):
        await pool.execute("CREATE TABLE IF NOT EXISTS notes AS SELECT 0 AS value")
        await pool.execute("UPDATE notes SET value = 0")
        await eventually(lambda: reads.fetchval("SELECT to_regclass('notes') IS NOT NULL"))
        assert isinstance(reader, Replica)
        yield Pair(Database(pool), reads, replica.process, reader)


async def test_a_fresh_replica_is_used(pair: Pair) -> None:
    await pair.reads(0, "replica")
    await pair.write(1)
    await pair.reads(1, "replica")


async def test_a_replica_whose_replay_is_paused_is_not_used_until_it_has_caught_up(
    pair: Pair,
) -> None:
    await pair.reads(0, "replica")
    await pair.standby.execute("SELECT pg_wal_replay_pause()")
    try:
        await pair.write(2)
        # Its own figures say that it has received all there is.
        await pair.reads(2, "primary")
        assert not pair.reader.fresh
        await pair.write(3)
        assert await pair.read() == (3, "primary")
    finally:
        await pair.standby.execute("SELECT pg_wal_replay_resume()")
    await pair.reads(3, "replica")


async def test_an_idle_primary_leaves_its_replica_fresh(pair: Pair) -> None:
    await pair.reads(0, "replica")
    for _ in range(5):
        await pair.reader.look()
        assert pair.reader.fresh


async def test_a_replica_that_does_not_respond_costs_nothing_but_time(pair: Pair) -> None:
    await pair.reads(0, "replica")
    os.kill(pair.process.pid, signal.SIGINT)  # a fast shutdown
    pair.process.wait(20)

    assert await pair.read() == (0, "primary")
    assert not pair.reader.fresh  # so that no other call pays with time
    await pair.write(4)
    assert await pair.read() == (4, "primary")


async def test_without_a_replica_the_primary_is_the_reader() -> None:
    database = Database.__new__(Database)
    async with open_reader(database, "", lag_max_s=LAG_MAX_S) as reader:
        assert reader is database
