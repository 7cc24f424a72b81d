"""Postgres, Redis and leases: migrations once, scripts after a flush, one holder at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database, SchemaBehind, expect_schema, migrate, open_pool
from chassis.redis import Redis, Script
from chassis.redis.lease import Lease
from chassis.testing import eventually

NewDatabase = Callable[[], Awaitable[str]]


def _migration(folder: Path, number: int, text: str) -> None:
    (folder / f"{number:04d}_step.sql").write_text(text)


async def test_migrations_run_once_though_many_start_together(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = await new_database()
    _migration(tmp_path, 1, "CREATE TABLE thing.made (n int); INSERT INTO thing.made VALUES (1)")
    _migration(tmp_path, 2, "INSERT INTO thing.made VALUES (2)")

    numbers = await asyncio.gather(
        *(migrate(url, schema="thing", folder=tmp_path) for _ in range(5))
    )

    async with open_pool(url) as pool:
        rows = await pool.fetch("SELECT n FROM thing.made ORDER BY n")
        await expect_schema(Database(pool), schema="thing", folder=tmp_path)
    assert numbers == [2] * 5
    assert [row["n"] for row in rows] == [1, 2]


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = await new_database()
    _migration(tmp_path, 1, "CREATE TABLE thing.made (n int); SELECT 1/0")

    with pytest.raises(Exception, match="division by zero"):
        await migrate(url, schema="thing", folder=tmp_path)
    _migration(tmp_path, 1, "CREATE TABLE thing.made (n int)")
    assert await migrate(url, schema="thing", folder=tmp_path) == 1


async def test_a_migration_must_not_change_once_applied(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = await new_database()
    _migration(tmp_path, 1, "SELECT 1")
    await migrate(url, schema="thing", folder=tmp_path)
    _migration(tmp_path, 1, "SELECT 2")

    with pytest.raises(SchemaBehind, match=r"0001_step\.sql was changed"):
        await migrate(url, schema="thing", folder=tmp_path)


async def test_code_that_is_ahead_of_its_schema_says_so(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = await new_database()
    _migration(tmp_path, 1, "SELECT 1")
    async with open_pool(url) as pool:
        with pytest.raises(SchemaBehind, match="is at 0, this code needs 1"):
            await expect_schema(Database(pool), schema="thing", folder=tmp_path)
        await migrate(url, schema="thing", folder=tmp_path)
        _migration(tmp_path, 2, "SELECT 1")
        with pytest.raises(SchemaBehind, match="is at 1, this code needs 2"):
            await expect_schema(Database(pool), schema="thing", folder=tmp_path)


async def test_a_transaction_that_its_caller_left_open_is_ended_with_the_use(
    new_database: NewDatabase,
) -> None:
    async with open_pool(await new_database(), size_max=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            await connection.execute("CREATE TABLE half_done ()")

        assert await pool.fetchval("SELECT to_regclass('half_done')") is None
        assert await pool.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


async def test_a_schemas_name_is_an_identifier_or_nothing(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    _migration(tmp_path, 1, "SELECT 1")
    with pytest.raises(ValueError, match="not a schema's name"):
        await migrate(await new_database(), schema="x; DROP TABLE y", folder=tmp_path)


async def test_a_script_serves_one_call_and_many_also_after_the_server_forgot_it(
    redis: Redis,
) -> None:
    double = Script(redis, "return ARGV[1] * 2", name="test")

    assert await double([], [4]) == 8
    await redis.script_flush()
    assert await double.many([([], [n]) for n in range(3)]) == [0, 2, 4]
    await redis.script_flush()
    assert await double([], [5]) == 10


async def test_a_lease_has_one_holder_and_each_new_one_a_higher_number(redis: Redis) -> None:
    first, second = (Lease(redis, "lease:x", ttl_s=5) for _ in range(2))

    fence = await first.hold()
    assert fence > 0
    assert await second.hold() == 0
    assert await first.hold() == fence
    await second.release()  # of what is not held
    assert await first.hold() == fence
    with clock.ahead(6):
        later = await second.hold()
        assert later > fence
        assert await first.hold() == 0
        await second.release()
        assert await first.hold() > later


async def test_a_fence_rises_even_when_redis_lost_it(redis: Redis) -> None:
    before = await Lease(redis, "lease:x").hold()
    await redis.flushall()
    with clock.ahead(0.01):
        assert await Lease(redis, "lease:x").hold() > before


async def test_leased_work_goes_on_after_it_failed_and_ends_with_the_task(redis: Redis) -> None:
    done: list[int] = []
    enough = asyncio.Event()

    async def work(number: int) -> None:
        done.append(number)
        if len(done) == 3:
            enough.set()
        raise ValueError("once more")

    lease = Lease(redis, "lease:y")
    task = asyncio.create_task(lease.run(work, pause_s=0.001))
    await asyncio.wait_for(enough.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert len(set(done)) == 1
    assert await Lease(redis, "lease:y").hold() > done[0]  # given back at once


async def test_a_lease_is_renewed_when_a_quarter_of_its_life_is_over_and_not_for_every_work(
    redis: Redis,
) -> None:
    async def held_until() -> int:
        return int(await redis.hget("lease:z", "until") or 0)

    ends: list[int] = []
    enough = asyncio.Event()

    async def work(number: int) -> None:
        ends.append(await held_until())
        if len(set(ends)) == 3:
            enough.set()

    task = asyncio.create_task(Lease(redis, "lease:z", ttl_s=0.4).run(work, pause_s=0.001))
    await asyncio.wait_for(enough.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert all(later - end >= 50 for end, later in pairwise(sorted(set(ends))))  # ms
    assert len(ends) > 10


async def test_nothing_is_done_while_the_lease_cannot_be_renewed(redis: Redis) -> None:
    done: list[int] = []

    async def work(number: int) -> None:
        done.append(number)
        await redis.set("lease:w", "no lease")

    async def done_again() -> bool:
        return len(done) > 1

    task = asyncio.create_task(Lease(redis, "lease:w", ttl_s=0.04).run(work, pause_s=0.01))
    for _ in range(100):
        await redis.ping()
    await redis.delete("lease:w")
    await eventually(done_again)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert len(done) == 2


def test_ids_sort_by_their_time_and_follow_the_clock() -> None:
    early = uuid7()
    with clock.ahead(1):
        late = uuid7()

    assert early < late
    assert (early[14], early[19] in "89ab") == ("7", True)
    assert len({uuid7() for _ in range(1000)}) == 1000
