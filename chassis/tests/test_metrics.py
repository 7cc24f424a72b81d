"""What the metrics of every process show: pools, Redis, calls to peers, the event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager

import asyncpg
import pytest
from aiohttp import ClientSession
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import RedisError, ResponseError

from chassis import lag
from chassis.errors import Failed
from chassis.postgres import Database, DbUnavailable, open_database, open_pool
from chassis.postgres.replica import Replica
from chassis.redis import Redis, Script, open_redis
from chassis.redis.memory import MemoryMeter
from chassis.rpc.server import operations
from chassis.settings import ProcessSettings
from chassis.testing import Certificates, eventually, served
from chassis.tests.gate import Gate
from chassis.tests.test_server import ECHO, WHO, Echo

NewDatabase = Callable[[], Awaitable[str]]


def value(name: str, **labels: str) -> float:
    """Of a series that is there."""
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


@asynccontextmanager
async def held(database: Database, count: int) -> AsyncIterator[None]:
    """So many of the database's connections are in use within the context."""
    free, taken = asyncio.Event(), asyncio.Semaphore(0)

    async def hold() -> None:
        async with database.connection():
            taken.release()
            await free.wait()

    holding = [asyncio.create_task(hold()) for _ in range(count)]
    for _ in holding:
        await taken.acquire()
    yield
    free.set()
    await asyncio.gather(*holding)


async def test_a_pool_that_is_full_shows_as_many_connections_in_use_as_it_may_have(
    new_database: NewDatabase,
) -> None:
    def use() -> tuple[float, float]:
        names = ("postgres_pool_connections_in_use", "postgres_pool_connections_max")
        in_use, most = (value(name, pool="primary") for name in names)
        return in_use, most

    async with open_database(await new_database(), connections_max=3) as database:
        assert use() == (0, 3)
        async with held(database, 2):
            assert use() == (2, 3)
        async with held(database, 3):
            assert use() == (3, 3)
        assert use() == (0, 3)


async def test_who_waits_for_a_connection_is_measured(new_database: NewDatabase) -> None:
    def waits() -> tuple[float, float]:
        name = "postgres_pool_wait_seconds"
        return value(f"{name}_count", pool="primary"), value(f"{name}_sum", pool="primary")

    async with open_database(await new_database(), connections_max=1) as database:
        await database.fetch("SELECT 1")
        count, total_s = waits()
        async with held(database, 1):
            waiting = asyncio.create_task(database.fetch("SELECT 1"))
            await asyncio.sleep(0.05)  # The wait itself is tested.
        await waiting

    assert waits()[0] == count + 2
    assert waits()[1] - total_s >= 0.045


async def test_the_replicas_pool_is_another_one(new_database: NewDatabase) -> None:
    url = await new_database()
    async with (
        open_database(url) as database,
        asyncpg.create_pool(url, min_size=0, max_size=2) as pool,
    ):
        replica = Replica(database, pool, lag_max_s=1.0)
        assert value("postgres_pool_connections_max", pool="replica") == 2
        before = value("postgres_pool_wait_seconds_count", pool="replica")
        async with pool.acquire(), pool.acquire():
            assert value("postgres_pool_connections_in_use", pool="replica") == 2
        await replica.look()
        assert value("postgres_pool_wait_seconds_count", pool="replica") == before + 1
        assert value("postgres_pool_connections_in_use", pool="replica") == 0


async def test_errors_of_postgres_are_counted_by_class_once_each(new_database: NewDatabase) -> None:
    def errors(class_: str) -> float:
        return value("postgres_errors_total", **{"class": class_})

    async with open_pool(await new_database(), size_max=1) as pool:
        database = Database(pool)
        before = {class_: errors(class_) for class_ in ("42", "57", "connection")}

        with pytest.raises(asyncpg.PostgresSyntaxError):
            await database.fetch("SELEC")
        assert errors("42") == before["42"] + 1
        with pytest.raises(DbUnavailable):
            async with database.transaction() as connection:
                await connection.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(5)")
        assert errors("57") == before["57"] + 1
        with pytest.raises(DbUnavailable):
            await _lose_connection(database)

        assert errors("connection") == before["connection"] + 1
        assert errors("42") == before["42"] + 1


async def _lose_connection(database: Database) -> None:
    async with database.connection() as connection:
        connection.terminate()
        await connection.fetch("SELECT 1")


@pytest.mark.parametrize("class_", ["connection", "08", "25", "40", "53", "57", "58", "XX"])
async def test_a_class_of_errors_that_alerts_are_about_is_there_before_its_first_event(
    new_database: NewDatabase, class_: str
) -> None:
    async with open_pool(await new_database(), size_max=1) as pool:
        Database(pool)

    value("postgres_errors_total", **{"class": class_})


async def test_the_time_of_a_round_trip_to_redis_is_measured_once_however_many_commands(
    redis: Redis,
) -> None:
    await redis.set("n", 1)
    before, total_s = value("redis_command_seconds_count"), value("redis_command_seconds_sum")

    began = time.perf_counter()
    await redis.execute_many([("INCR", "n")] * 50)
    took_s = time.perf_counter() - began

    assert value("redis_command_seconds_count") == before + 1
    assert 0 < value("redis_command_seconds_sum") - total_s <= took_s


async def test_a_command_that_blocks_is_not_measured(redis: Redis) -> None:
    await redis.ping()
    before = value("redis_command_seconds_count")

    await redis.xread({"nothing": "0"}, block=20)

    assert value("redis_command_seconds_count") == before


async def test_commands_that_wait_for_their_answers_are_in_flight(gate: Gate) -> None:
    async with open_redis(f"redis://127.0.0.1:{gate.port}") as client:
        assert value("redis_commands_in_flight") == 0
        gate.answering.clear()
        calls = [asyncio.ensure_future(client.ping()) for _ in range(3)]

        async def sent() -> bool:
            return value("redis_commands_in_flight") == 3

        await eventually(sent)
        gate.answering.set()
        await asyncio.gather(*calls)
        assert value("redis_commands_in_flight") == 0


async def test_error_replies_and_lost_connections_are_errors_of_redis(
    gate: Gate, redis: Redis
) -> None:
    async with open_redis(f"redis://127.0.0.1:{gate.port}") as client:
        before = value("redis_errors_total")
        with pytest.raises(ResponseError):
            await client.execute_many([("PING",), ("NONSENSE",), ("PING",)])
        assert value("redis_errors_total") == before + 1
        await redis.script_flush()
        await Script(client, "return 1")([], [])  # unknown to the server, so sent whole
        assert value("redis_errors_total") == before + 1
        gate.answering.clear()
        calls = [asyncio.ensure_future(client.ping()) for _ in range(3)]
        calls.append(asyncio.ensure_future(client.xread({"nothing": "0"}, block=5000)))

        async def sent() -> bool:
            return value("redis_commands_in_flight") == 3 and gate.arrivals == 2

        await eventually(sent)
        gate.cut()
        failed = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(error, RedisError) for error in failed)
    assert value("redis_errors_total") == before + 5


async def test_redis_memory_is_measured_also_without_a_limit(redis: Redis) -> None:
    meter = MemoryMeter(redis)
    await redis.config_set("maxmemory", 0)
    await meter.measure()
    (node,) = meter.nodes

    assert value("redis_memory_used_bytes", node=node) > 100_000
    assert value("redis_memory_max_bytes", node=node) == 0

    await redis.config_set("maxmemory", 512 * 2**20)
    await meter.measure()
    await redis.config_set("maxmemory", 0)
    assert value("redis_memory_max_bytes", node=node) == 512 * 2**20


async def test_every_node_of_a_cluster_is_measured(redis_cluster: Redis) -> None:
    meter = MemoryMeter(redis_cluster)
    await meter.measure()

    assert len(meter.nodes) == 3
    assert all(value("redis_memory_used_bytes", node=node) for node in meter.nodes)


async def test_a_node_that_does_not_answer_has_no_measurement(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with own_redis() as url:
        client = Redis(url)
        meter = MemoryMeter(client)
        await meter.measure()
        (node,) = meter.nodes
        value("redis_memory_used_bytes", node=node)

    await meter.measure()

    assert REGISTRY.get_sample_value("redis_memory_used_bytes", {"node": node}) is None
    await client.aclose()


async def test_calls_to_a_peer_are_counted_by_their_outcome(certificates: Certificates) -> None:
    def calls(code: str) -> float:
        labels = {"unit": "auth", "method": ECHO, "code": code}
        return REGISTRY.get_sample_value("grpc_client_requests_total", labels) or 0

    async with served(
        "auth", Echo().register, certificates=certificates, callers=WHO, caller="gateway"
    ) as channel:
        say = channel.unary_unary(ECHO)
        before = {code: calls(code) for code in ("OK", "NAME_TAKEN", "UNAVAILABLE")}
        await say(b"hello")
        await say(b"hello")
        with pytest.raises(Failed):
            await say(b"taken")
        # There before its first event.
        value("grpc_client_requests_total", unit="auth", method=ECHO, code="UNAVAILABLE")
        with pytest.raises(Failed):
            await say(b"unavailable")

    assert {code: calls(code) - before[code] for code in before} == {
        "OK": 2,
        "NAME_TAKEN": 1,
        "UNAVAILABLE": 1,
    }


async def test_a_busy_event_loop_shows_on_the_operations_port(certificates: Certificates) -> None:
    settings = ProcessSettings(tls_dir=certificates.folder / "auth")
    async with operations(settings, ready=lambda: True) as port, ClientSession() as http:

        async def late() -> float:
            """How often the loop was at least 100 ms late."""
            async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
                families = text_string_to_metric_families(await response.text())
            (family,) = (f for f in families if f.name == "event_loop_lag_seconds")
            by_bound = {s.labels["le"]: s.value for s in family.samples if "le" in s.labels}
            return by_bound["+Inf"] - by_bound["0.1"]

        before = await late()

        async def seen() -> bool:
            time.sleep(lag.PAUSE_S + 0.15)  # noqa: ASYNC251  What is to be shown.
            return await late() > before

        await eventually(seen)
