"""The shared connection: its callers get their own answers, and lose none to each other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.redis import Redis, open_redis
from chassis.redis.link import Link, Server
from chassis.testing import eventually
from chassis.tests.gate import LOST, Gate

redis_py = redis.asyncio.Redis
OwnRedis = Callable[[], AbstractContextManager[str]]


@asynccontextmanager
async def through(gate: Gate, *, timeout_s: float = 5.0) -> AsyncIterator[Redis]:
    async with open_redis(f"redis://127.0.0.1:{gate.port}", timeout_s=timeout_s) as client:
        yield client


async def read(client: Redis, stream: str, after: str) -> Any:
    """What comes after an entry, waited for."""
    return await client.xread({stream: after}, block=5000)


async def in_flight(client: Redis, *keys: str) -> list["asyncio.Future[Any]"]:
    """Calls that were sent and have no reply yet."""
    calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(client.incr(key)) for key in keys]
    await asyncio.sleep(0.05)
    return calls


async def test_thousands_of_callers_share_one_connection_and_get_their_own_answers(
    gate: Gate, redis: Redis
) -> None:
    async with through(gate) as client:
        answers = await asyncio.gather(*(client.echo(f"{n}") for n in range(5000)))

    assert answers == [f"{n}".encode() for n in range(5000)]
    assert gate.arrivals == 1


async def test_what_is_larger_than_any_socket_buffer_arrives_whole(redis: Redis) -> None:
    values = {f"k{n}": bytes([n]) * 12_000_000 for n in range(3)}

    await asyncio.gather(*(redis.set(key, value) for key, value in values.items()))
    found = await asyncio.gather(*(redis.get(key) for key in values), redis.echo("x"))

    assert found == [*values.values(), b"x"]


async def test_a_caller_that_gives_up_leaves_the_answers_to_the_right_ones(
    gate: Gate, redis: Redis
) -> None:
    async with through(gate) as client:
        gate.answering.clear()
        calls: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(client.echo(f"{n}")) for n in range(9)
        ]
        calls.append(asyncio.ensure_future(client.execute_many([("ECHO", "a"), ("ECHO", "b")])))
        await asyncio.sleep(0.05)
        for given_up in calls[::3]:
            given_up.cancel()
        gate.answering.set()
        kept = [call for n, call in enumerate(calls) if n % 3]

        assert await asyncio.gather(*kept) == [b"1", b"2", b"4", b"5", b"7", b"8"]
        assert await client.echo("after") == b"after"
    assert gate.arrivals == 1


async def test_a_caller_that_gives_up_while_it_connects_fails_no_other(gate: Gate) -> None:
    gate.answering.clear()
    client = Redis(f"redis://127.0.0.1:{gate.port}/1")  # its SELECT has its reply first
    calls = [asyncio.ensure_future(client.echo(f"{n}")) for n in range(3)]
    await asyncio.sleep(0.05)
    calls[0].cancel()
    gate.answering.set()

    assert await asyncio.gather(*calls[1:]) == [b"1", b"2"]
    await client.aclose()


async def test_calls_in_flight_fail_with_their_connection_and_are_not_made_again(
    gate: Gate, redis: Redis
) -> None:
    async with through(gate) as client:
        gate.answering.clear()
        calls = await in_flight(client, "a", "b")
        gate.cut()
        problems = await asyncio.gather(*calls, return_exceptions=True)
        gate.answering.set()

        assert [type(problem) for problem in problems] == [RedisConnectionError] * 2
        assert await client.mget("a", "b") == [b"1", b"1"]
    assert gate.arrivals == 2


async def test_a_server_that_does_not_respond_in_time_is_left(gate: Gate, redis: Redis) -> None:
    async with through(gate, timeout_s=0.2) as client:
        gate.answering.clear()
        calls = await in_flight(client, "a", "b")
        problems = await asyncio.gather(*calls, return_exceptions=True)
        gate.answering.set()

        assert [type(problem) for problem in problems] == [RedisTimeoutError] * 2
        assert await client.echo("x") == b"x"
    assert gate.arrivals == 2


async def test_each_call_has_its_own_time_however_many_came_before(
    gate: Gate, redis: Redis
) -> None:
    async with through(gate, timeout_s=0.6) as client:
        await asyncio.sleep(0.4)
        gate.answering.clear()
        calls = await in_flight(client, "a")
        await asyncio.sleep(0.3)  # more than the time of what was sent first
        gate.answering.set()
        assert await asyncio.gather(*calls) == [1]
    assert gate.arrivals == 1


async def test_a_restarted_server_is_found_again(own_redis: OwnRedis) -> None:
    with own_redis() as url:
        client = Redis(url)
        await client.set("a", 1)
    with pytest.raises(LOST):
        await client.get("a")
    with own_redis():

        async def back() -> bool:
            try:
                return bool(await client.ping())
            except LOST:
                return False

        assert await eventually(back)
        assert await client.get("a") is None
    await client.aclose()


async def test_an_absent_server_is_not_tried_at_every_call(gate: Gate) -> None:
    gate.shut = True
    client = Redis(f"redis://127.0.0.1:{gate.port}/1")
    for _ in range(1000):
        with pytest.raises(RedisConnectionError):
            await client.get("a")

    assert gate.arrivals < 50
    gate.shut = False
    await asyncio.sleep(0.25)
    assert await client.get("a") is None
    await client.aclose()


async def test_calls_beyond_the_limit_are_refused_at_once(gate: Gate) -> None:
    link = Link(Server(host="127.0.0.1", port=gate.port), timeout_s=5, waiting_max=3)
    await link.execute([("PING",)])
    gate.answering.clear()
    waiting = [asyncio.create_task(link.execute([("PING",)])) for _ in range(3)]
    await asyncio.sleep(0.05)

    with pytest.raises(RedisConnectionError, match="3 commands wait"):
        await link.execute([("PING",)])
    gate.answering.set()
    assert await asyncio.gather(*waiting) == [[b"PONG"]] * 3
    assert await link.execute([("PING",)]) == [b"PONG"]
    link.close()


async def test_a_read_that_blocks_holds_up_no_other(redis: Redis) -> None:
    reads = [asyncio.create_task(read(redis, "s", "$")) for _ in range(3)]

    async def blocked() -> bool:
        return bool((await redis.info("clients"))["blocked_clients"] == 3)

    await eventually(blocked)
    await redis.xadd("s", {"a": "1"})
    for found in await asyncio.gather(*reads):
        assert found[0][0] == b"s"
    assert await redis.xread({"s": "$"}, block=10) == []


async def test_a_read_has_its_own_time_after_a_longer_one(gate: Gate, redis: Redis) -> None:
    await redis.xadd("s", {"a": "1"})
    async with through(gate, timeout_s=0.2) as client:
        assert await read(client, "s", "0")
        gate.answering.clear()
        async with asyncio.timeout(2):
            with pytest.raises(RedisTimeoutError):
                await client.xread({"s": "$"}, block=10)


async def test_a_read_that_is_given_up_holds_up_no_later_one(redis: Redis) -> None:
    given_up = asyncio.create_task(read(redis, "s", "$"))
    await asyncio.sleep(0.05)
    given_up.cancel()
    later = asyncio.create_task(read(redis, "t", "0"))
    await asyncio.sleep(0.05)
    await redis.xadd("t", {"b": "2"})

    async with asyncio.timeout(2):
        assert (await later)[0][0] == b"t"
