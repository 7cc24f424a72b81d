"""The Redis client: redis-py's commands and shapes, many at once, in one step, as scripts."""

import asyncio
import shutil
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, ResponseError

from chassis.redis import Redis, Script
from chassis.testing import Certificates, eventually
from chassis.tests.gate import Dial, gate_to

redis_py = redis.asyncio.Redis
OwnRedis = Callable[[], AbstractContextManager[str]]


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


async def test_each_connection_by_tls_goes_by_the_files_of_the_moment(
    dial: Dial, tmp_path: Path, issue_certificates: Callable[[Path], None], redis: Redis
) -> None:
    first, second = tmp_path / "first" / "auth", tmp_path / "second" / "auth"
    for folder in (first, second):
        issue_certificates(folder.parent)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(first / "tls.crt", first / "tls.key")
    trusted = tmp_path / "ca.crt"
    shutil.copy(first / "ca.crt", trusted)
    async with gate_to(dial, tls=shown) as gate:
        url = f"rediss://127.0.0.1:{gate.port}?ssl_check_hostname=false&ssl_ca_certs={trusted}"
        async with Redis(url) as client, client.pubsub(ignore_subscribe_messages=True) as messages:
            assert await client.echo("x") == b"x"
            await messages.subscribe("news")
            # The server's CA is replaced, and so is the file.
            shown.load_cert_chain(second / "tls.crt", second / "tls.key")
            shutil.copy(second / "ca.crt", trusted)
            gate.cut()

            async def served() -> bool:
                try:
                    await client.publish("news", "x")
                    return await messages.get_message(timeout=0.1) is not None
                except RedisConnectionError:
                    return False

            await eventually(served)


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


async def test_nothing_gets_between_the_commands_of_one_step(redis: Redis) -> None:
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

    async def run(client: redis_py) -> list[Any]:
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
        expected = await run(plain)
        await redis.delete("k")
        assert await run(redis) == expected


async def test_a_pipeline_watches_nothing(redis: Redis) -> None:
    async with redis.pipeline() as pipe:
        with pytest.raises(DataError):
            await pipe.watch("a")


async def test_messages_arrive_on_a_connection_of_its_own(redis: Redis) -> None:
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
