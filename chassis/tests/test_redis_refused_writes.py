"""A Redis that answers but refuses writes: a check finds it, and a demoted one is left."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from chassis.redis import UNAVAILABLE, Redis, Script, open_redis
from chassis.testing import eventually
from chassis.tests.gate import gate_to

OwnRedis = Callable[[], AbstractContextManager[str]]
Change = Callable[[Redis], Awaitable[Any]]
RECOVERED_S = 2.0


def configured(name: str, value: str) -> Change:
    return lambda redis: redis.config_set(name, value)


def replica_of(*primary: str) -> Change:
    return lambda redis: redis.execute_command("REPLICAOF", *primary)


async def fail_to_save(redis: Redis) -> None:
    """Lets a snapshot fail, which stops writes by default."""
    (await _folder(redis)).chmod(0o500)
    await redis.config_set("save", "3600 1")
    await redis.bgsave()

    async def failed() -> bool:
        about: dict[str, Any] = await redis.info("persistence")
        return bool(about["rdb_last_bgsave_status"] == "err")

    await eventually(failed)


async def save_again(redis: Redis) -> None:
    (await _folder(redis)).chmod(0o700)
    await redis.config_set("save", "")


async def _folder(redis: Redis) -> Path:
    found = await redis.config_get("dir")
    return Path(str(found["dir"]))


REFUSALS: dict[str, tuple[Change, Change]] = {
    "READONLY": (replica_of("127.0.0.1", "1"), replica_of("NO", "ONE")),
    "OOM": (configured("maxmemory", "1"), configured("maxmemory", "0")),
    "NOREPLICAS": (
        configured("min-replicas-to-write", "1"),
        configured("min-replicas-to-write", "0"),
    ),
    "MISCONF": (fail_to_save, save_again),
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_server_that_refuses_writes_is_unavailable_until_it_takes_them(
    own_redis: OwnRedis, code: str
) -> None:
    refuse, accept = REFUSALS[code]
    with own_redis() as url:
        async with open_redis(url) as client, open_redis(url) as admin:
            script = Script(client, "return redis.call('SET', KEYS[1], ARGV[1])", name="test")
            await script(["k"], ["before"])
            await client.check("a-unit")

            await refuse(admin)
            try:
                for write in (
                    lambda: client.check("a-unit"),
                    lambda: client.set("k", "v"),
                    lambda: script(["k"], ["v"]),
                    lambda: client.execute_many([("SET", "k", "v")], atomic=True),
                ):
                    with pytest.raises(UNAVAILABLE) as raised:
                        await write()
                    assert isinstance(raised.value, RedisError)
                    assert raised.value.status_code == code
            finally:
                await accept(admin)

            async def accepted() -> bool:
                await client.check("a-unit")
                return True

            await eventually(lambda: _succeeds(accepted), timeout_s=RECOVERED_S)
            assert await script(["k"], ["after"]) == b"OK"


async def _succeeds(call: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await call()
    except UNAVAILABLE:
        return False
    return True


async def test_a_check_leaves_one_key_of_its_unit_for_some_seconds(redis: Redis) -> None:
    await redis.check("a-unit")
    await redis.check("a-unit")

    assert await redis.keys() == [b"health:a-unit"]
    assert 0 < await redis.pttl("health:a-unit") <= 10_000


async def test_a_check_of_a_cluster_finds_one_node_that_refuses_writes(
    redis_cluster: Redis, redis_nodes: Any
) -> None:
    for number in range(3):
        await redis_cluster.check("a-unit")
        with redis_nodes.node(number) as node:
            node.config_set("maxmemory", "1")
            try:
                with pytest.raises(RedisError):
                    await redis_cluster.check("a-unit")
            finally:
                node.config_set("maxmemory", "0")
    await redis_cluster.check("a-unit")


async def test_a_demoted_primary_is_left_for_the_server_that_its_address_names_now(
    tmp_path_factory: pytest.TempPathFactory,
    own_redis: OwnRedis,
    redis: Redis,
    dial: Any,
) -> None:
    """The demoted one goes on answering: reads, and on connections that stand."""
    with own_redis() as old_url:
        async with AsyncExitStack() as stack:
            old = await stack.enter_async_context(open_redis(old_url))
            gate = await stack.enter_async_context(gate_to(_dial(old_url)))
            password = old_url.split("@")[0].rpartition(":")[2]
            client = await stack.enter_async_context(
                open_redis(f"redis://:{password}@127.0.0.1:{gate.port}")
            )
            await client.set("at", "old")
            await client.xread({"s": "0-0"}, block=10)  # on a connection of its own
            blocked: asyncio.Future[Any] = asyncio.ensure_future(
                client.xread({"s": "0-0"}, block=1000)
            )

            await old.execute_command("REPLICAOF", "127.0.0.1", "1")
            await redis.execute_command("ACL", "SETUSER", "default", f">{password}")
            stack.push_async_callback(
                lambda: redis.execute_command("ACL", "SETUSER", "default", "nopass")
            )
            gate.dial = dial
            answers = await client.answers([("GET", "at"), ("SET", "at", "x"), ("GET", "at")])

            assert [answers[0], answers[2]] == [b"old", b"old"]
            await eventually(
                lambda: _succeeds(lambda: client.set("at", "new")), timeout_s=RECOVERED_S
            )
            assert await redis.get("at") == b"new"
            await redis.xadd("s", {"n": 1})
            await asyncio.wait([blocked])
            blocked.exception()
            assert await client.xread({"s": "0-0"}, block=1000)


def _dial(url: str) -> Any:
    host, port = url.rpartition("@")[2].split("/")[0].split(":")
    return lambda: asyncio.open_connection(host, int(port))
