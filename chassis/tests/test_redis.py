"""The Redis client: one connection for all callers, whose answers never get mixed up."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.redis import AWAY, Redis, Script, open_redis
from chassis.redis_link import Link, Server
from chassis.testing import Certificates, eventually
from chassis.tests.gate import Dial, Gate, gate_to

redis_py = redis.asyncio.Redis
OwnRedis = Callable[[], AbstractContextManager[str]]


@pytest.fixture
def dial(redis_url: str) -> Dial:
    place: dict[str, Any] = dict(parse_url(redis_url))
    if "path" in place:
        return partial(asyncio.open_unix_connection, place["path"])
    return partial(asyncio.open_connection, place["host"], place["port"])


@pytest.fixture
async def gate(dial: Dial) -> AsyncIterator[Gate]:
    async with gate_to(dial) as opened:
        yield opened


@asynccontextmanager
async def through(gate: Gate, *, timeout_s: float = 5.0) -> AsyncIterator[Redis]:
    async with open_redis(f"redis://127.0.0.1:{gate.port}", timeout_s=timeout_s) as client:
        yield client


async def read(client: Redis, stream: str, after: str) -> Any:
    """What comes after an entry, waited for."""
    return await client.xread({stream: after}, block=5000)


async def in_flight(client: Redis, *keys: str) -> list["asyncio.Future[Any]"]:
    """Calls that were sent and are not answered yet."""
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


async def test_a_caller_that_gives_up_while_it_connects_fails_nobody_else(gate: Gate) -> None:
    gate.answering.clear()
    client = Redis(f"redis://127.0.0.1:{gate.port}/1")  # its SELECT is to be answered first
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


async def test_a_server_that_does_not_answer_in_time_is_left(gate: Gate, redis: Redis) -> None:
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
        await asyncio.sleep(0.3)  # more than the time of what was asked first
        gate.answering.set()
        assert await asyncio.gather(*calls) == [1]
    assert gate.arrivals == 1


async def test_a_restarted_server_is_found_again(own_redis: OwnRedis) -> None:
    with own_redis() as url:
        client = Redis(url)
        await client.set("a", 1)
    with pytest.raises(AWAY):
        await client.get("a")
    with own_redis():

        async def back() -> bool:
            try:
                return bool(await client.ping())
            except AWAY:
                return False

        assert await eventually(back)
        assert await client.get("a") is None
    await client.aclose()


async def test_an_absent_server_is_not_asked_at_every_call(gate: Gate) -> None:
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


async def test_the_url_says_where_and_who(own_redis: OwnRedis) -> None:
    with own_redis() as url:
        third = f"{url.removesuffix('/0')}/3"
        async with Redis(third) as client, redis.asyncio.Redis.from_url(third) as plain:
            await client.set("a", 1)
            assert await plain.get("a") == b"1"
        async with Redis(url) as client:
            assert await client.get("a") is None
        stranger = Redis(url.replace("redis://:", "redis://:not"))
        with pytest.raises(RedisConnectionError, match="invalid username-password"):
            await stranger.get("a")
        await stranger.aclose()


async def test_a_rediss_url_is_spoken_to_by_tls_and_its_certificate_is_checked(
    dial: Dial, certificates: Certificates, redis: Redis
) -> None:
    folder = certificates.folder / "auth"
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    async with gate_to(dial, tls=shown) as gate:
        url = f"rediss://127.0.0.1:{gate.port}?ssl_check_hostname=false"
        async with Redis(f"{url}&ssl_ca_certs={folder / 'ca.crt'}") as client:
            assert await client.echo("x") == b"x"
        async with Redis(url) as doubtful:
            with pytest.raises(RedisConnectionError, match="certificate verify failed"):
                await doubtful.echo("x")


async def test_a_read_that_blocks_holds_up_nobody(redis: Redis) -> None:
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


async def test_what_would_hold_up_everybody_is_refused(redis: Redis) -> None:
    for waiting in (redis.blpop(["a"], timeout=1), redis.xread({"s": "$"}, block=0)):
        with pytest.raises(DataError):
            await waiting
    assert await redis.echo("x") == b"x"


async def test_many_commands_run_though_one_of_them_fails(redis: Redis) -> None:
    await redis.set("text", "x")

    with pytest.raises(ResponseError, match="not an integer"):
        await redis.execute_many([(b"INCR", b"a"), ("INCR", "text"), ("INCRBY", "a", 2)])

    assert await redis.execute_many([("GET", "a"), ("LRANGE", "none", 0, -1)]) == [b"3", []]
    assert await redis.execute_many([]) == []


async def test_commands_in_one_step_all_run_or_none(redis: Redis) -> None:
    both = [("INCR", "a"), ("INCRBY", "a", 2)]
    assert await redis.execute_many(both, atomic=True) == [1, 3]

    with pytest.raises(ResponseError, match="unknown command"):
        await redis.execute_many([*both, ("NONSENSE",)], atomic=True)
    assert await redis.get("a") == b"3"


async def test_nobody_gets_between_the_commands_of_one_step(redis: Redis) -> None:
    step = [("INCR", "n"), ("INCR", "n"), ("INCR", "n")]

    answers = await asyncio.gather(
        *(redis.execute_many(step, atomic=True) for _ in range(200)),
        *(redis.incrby("n", 3) for _ in range(200)),
    )

    assert all(answer[0] % 3 == 1 for answer in answers[:200])
    assert await redis.get("n") == b"1200"


async def test_an_argument_of_another_type_is_refused_before_anything_is_sent(
    redis: Redis,
) -> None:
    for wrong in (None, True, ["x"]):
        with pytest.raises(DataError):
            await redis.execute_many([("SET", "a", "1"), ("SET", "b", wrong)])  # type: ignore[list-item]
    assert await redis.exists("a") == 0


async def test_answers_have_the_shapes_that_redis_py_gives(redis: Redis, redis_url: str) -> None:
    await redis.hset("h", mapping={"a": "1", "b": "2"})
    await redis.zadd("z", {"x": 1.5, "y": 2})
    await redis.sadd("s", "m")
    await redis.xadd("x", {"f": "v"}, id="1-1")

    async def ask(client: redis_py) -> list[Any]:
        pipe: Any = client.pipeline(transaction=False)
        step: Any = client.pipeline()
        failing: Any = client.pipeline()
        pipe.hgetall("h").zrange("z", 0, -1, withscores=True).xrange("x").smembers("s")
        return [
            await client.hgetall("h"),
            await client.hmget("h", ["a", "c"]),
            await client.zrange("z", 0, -1, withscores=True),
            await client.zscore("z", "x"),
            await client.smembers("s"),
            await client.xrange("x"),
            await client.xread({"x": "0"}),
            await client.xinfo_stream("x"),
            await client.exists("h", "none"),
            await client.set("k", 1),
            await client.set("k", 1, nx=True),
            await client.pttl("k"),
            await client.config_get("maxmemory-policy"),
            await client.type("h"),
            [key async for key in client.scan_iter("h*")],
            await pipe.execute(),
            await step.get("k").exists("k").execute(),
            list(map(type, await failing.hget("k", "f").execute(raise_on_error=False))),
        ]

    async with redis_py.from_url(redis_url) as plain:
        expected = await ask(plain)
        await redis.delete("k")
        assert await ask(redis) == expected


async def test_a_pipeline_watches_nothing(redis: Redis) -> None:
    async with redis.pipeline() as pipe:
        with pytest.raises(DataError):
            await pipe.watch("a")


async def test_news_is_heard_on_a_connection_of_its_own(redis: Redis) -> None:
    async with redis.pubsub(ignore_subscribe_messages=True) as news:
        await news.subscribe("news")
        assert await news.get_message(timeout=1) is None
        await redis.publish("news", "x")
        message = await eventually(partial(news.get_message, timeout=1))

    assert message["data"] == b"x"


async def test_scripts_that_the_server_forgot_run_once_however_many_call_them(
    redis: Redis,
) -> None:
    count = Script(redis, "return redis.call('INCR', KEYS[1])")
    await redis.script_flush()

    answers = await asyncio.gather(
        count.many([(["a"], [])] * 3), count(["b"], []), count.many([(["a"], [])] * 3)
    )

    assert sorted(answers[0] + answers[2]) == [1, 2, 3, 4, 5, 6]
    assert answers[1] == 1


async def test_a_script_that_fails_says_so_after_the_others_ran(redis: Redis) -> None:
    push = Script(redis, "return redis.call('LPUSH', KEYS[1], ARGV[1])")
    await redis.set("text", "x")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await push.many([(["a"], [1]), (["text"], [2]), (["a"], [3])])
    assert await redis.llen("a") == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1", "redis+cluster://127.0.0.1:1,127.0.0.1:2/1", "redis://h:port"]
)
def test_a_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)url|cluster|port"):
        Redis(url)
