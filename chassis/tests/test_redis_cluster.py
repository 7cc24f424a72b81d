"""The Redis client on a cluster: every key at its node, also when slots and nodes move."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ClusterCrossSlotError, DataError

from chassis.redis import Redis, Script, open_redis
from chassis.redis.cluster import slot_of
from chassis.testing import eventually
from chassis.tests.gate import LOST

KEYS = [f"k{n}" for n in range(300)]

# What stands for the nodes of the fixture: local's, which chassis does not import.
Nodes = Any


def owner(key: str) -> int:
    """The number of the node that has the key, by the fixture's equal parts."""
    return slot_of(key) * 3 // 16384


def keys_of(number: int) -> Iterator[str]:
    return (key for key in KEYS if owner(key) == number)


async def succeeds(call: Callable[[], Awaitable[Any]]) -> bool:
    """Whether there is an answer at all."""
    try:
        await call()
    except LOST:
        return False
    return True


async def test_each_key_is_found_at_its_own_node(redis_cluster: Redis, redis_nodes: Nodes) -> None:
    await asyncio.gather(*(redis_cluster.set(key, key) for key in KEYS))

    assert await asyncio.gather(*map(redis_cluster.get, KEYS)) == [key.encode() for key in KEYS]
    for number in range(3):
        with redis_nodes.node(number) as node:
            assert {key.decode() for key in node.scan_iter()} == set(keys_of(number))
            connections = [c for c in node.client_list() if c["cmd"] in ("get", "set")]
            assert len(connections) == 1


async def test_many_calls_return_in_their_order_each_node_in_one_go(
    redis_cluster: Redis, redis_nodes: Nodes
) -> None:
    add = Script(redis_cluster, "return redis.call('INCRBY', KEYS[1], ARGV[1])", name="test")
    calls = [([key], [n]) for n, key in enumerate(KEYS)]

    assert await add.many(calls) == list(range(300))
    assert await add.many(calls) == [2 * n for n in range(300)]
    with redis_nodes.node(1) as node:
        node.script_flush()
    assert await add.many(calls) == [3 * n for n in range(300)]
    assert await redis_cluster.execute_many([("GET", key) for key in KEYS]) == [
        b"%d" % (3 * n) for n in range(300)
    ]
    for number in range(3):
        with redis_nodes.node(number) as node:
            reads = node.info("stats")["total_reads_processed"]
            await redis_cluster.execute_many([("GET", key) for key in keys_of(number)])
            # One that reads, and one that brought them all.
            assert node.info("stats")["total_reads_processed"] - reads <= 2


async def test_keys_of_several_slots_are_refused_in_one_call(redis_cluster: Redis) -> None:
    script = Script(redis_cluster, "return 1", name="test")
    one, other = next(keys_of(0)), next(keys_of(1))

    for refused in (
        script([one, other], []),
        redis_cluster.mget(one, other),
        redis_cluster.execute_many([("SET", one, 1), ("SET", other, 1)], atomic=True),
    ):
        with pytest.raises(ClusterCrossSlotError):
            await refused
    assert await script(["{t}a", "{t}b"], []) == 1
    assert await script([], []) == 1
    assert await redis_cluster.exists(one) == 0


async def test_commands_in_one_step_go_to_the_node_of_their_slot(redis_cluster: Redis) -> None:
    for key in KEYS[:9]:
        pipe: Any = redis_cluster.pipeline(transaction=True)
        pipe.hset(f"{{{key}}}:a", mapping={"f": 1}).hgetall(f"{{{key}}}:a").incr(f"{{{key}}}:b")
        assert await pipe.execute() == [1, {b"f": b"1"}, 1]


async def test_a_slot_that_moved_is_followed(redis_cluster: Redis, redis_nodes: Nodes) -> None:
    key = next(keys_of(0))
    await redis_cluster.set(key, 1)
    try:
        redis_nodes.move(slot_of(key), 0, 1)
        assert await redis_cluster.incr(key) == 1  # without what it held
        assert await redis_cluster.incr(key) == 2
        redis_nodes.move(slot_of(key), 1, 2)
        assert await redis_cluster.execute_many([("INCR", key)] * 2, atomic=True) == [1, 2]
        redis_nodes.move(slot_of(key), 2, 1)
        waiting = asyncio.create_task(_next_entry(redis_cluster, f"{{{key}}}"))
        await asyncio.sleep(0.1)
        await redis_cluster.xadd(f"{{{key}}}", {"a": 1})
        assert (await waiting)[0][1][0][1] == {b"a": b"1"}
    finally:
        redis_nodes.move(slot_of(key), 1, 0)


async def test_a_slot_that_is_on_its_way_is_read_where_it_goes(
    redis_cluster: Redis, redis_nodes: Nodes
) -> None:
    key = next(keys_of(0))
    await redis_cluster.ping()
    with redis_nodes.moving(slot_of(key), 0, 1):
        assert await redis_cluster.incr(key) == 1
        answers = await redis_cluster.execute_many([("INCR", key), ("GET", KEYS[0]), ("GET", key)])
        assert answers == [2, None, b"2"]
        with redis_nodes.node(1) as node:
            assert slot_of(key) in [slot_of(kept) for kept in node.scan_iter()]
            node.flushall()


async def test_a_lost_connection_is_made_again(redis_cluster: Redis, redis_nodes: Nodes) -> None:
    await asyncio.gather(*(redis_cluster.set(key, key) for key in KEYS))
    with redis_nodes.node(1) as node:
        node.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def all_there() -> bool:
        return len(await redis_cluster.execute_many([("GET", key) for key in KEYS])) == 300

    await eventually(partial(succeeds, all_there), timeout_s=2)
    assert await all_there()


async def test_what_other_nodes_hold_is_there_while_one_is_unavailable(
    redis_cluster: Redis, redis_nodes: Nodes
) -> None:
    add = Script(redis_cluster, "return redis.call('INCR', KEYS[1])", name="test")
    lost, kept = next(keys_of(0)), next(keys_of(2))
    await add.many([([lost], []), ([kept], [])])
    redis_nodes.stop(0)
    try:
        unserved, served = await redis_cluster.answers([("GET", lost), ("GET", kept)])
        assert isinstance(unserved, LOST)
        assert served == b"1"
        with pytest.raises(LOST):
            await add.many([([lost], []), ([kept], [])])
        with pytest.raises(LOST):
            await redis_cluster.ping()
        assert await redis_cluster.get(kept) == b"2"
        async with Redis(redis_nodes.url) as late:
            assert await late.get(kept) == b"2"
        async with redis_cluster.pubsub() as news:
            await news.subscribe("news")
    finally:
        redis_nodes.start(0)
        redis_nodes.settle()
    await eventually(partial(succeeds, partial(add, [lost], [])))
    assert await redis_cluster.ping()


async def test_who_took_over_from_a_lost_node_is_found(
    redis_cluster: Redis, redis_nodes: Nodes
) -> None:
    key = next(keys_of(1))
    await redis_cluster.set(key, 1)
    redis_nodes.stop(1)
    try:
        redis_nodes.give(slot_of(key), 0)
        await eventually(partial(succeeds, partial(redis_cluster.incr, key)), timeout_s=2)
    finally:
        redis_nodes.start(1)
        redis_nodes.move(slot_of(key), 0, 1)
        redis_nodes.settle()
    await eventually(partial(succeeds, partial(redis_cluster.incr, key)))


async def test_streams_and_news_work_as_on_one_server(redis_cluster: Redis) -> None:
    streams = [f"s{n}" for n in range(6)]
    waiting = [asyncio.create_task(_next_entry(redis_cluster, stream)) for stream in streams]
    await asyncio.sleep(0.1)
    for stream in streams:
        await redis_cluster.xadd(stream, {"a": stream})
    found = await asyncio.gather(*waiting)
    assert [one[0][0].decode() for one in found] == streams

    async with redis_cluster.pubsub(ignore_subscribe_messages=True) as news:
        await news.subscribe("news")
        assert await news.get_message(timeout=1) is None
        for _ in range(3):  # from whichever node
            await redis_cluster.publish("news", "x")
            message = await eventually(partial(news.get_message, timeout=1))
            assert message["data"] == b"x"


async def test_what_one_script_may_touch_is_grouped_by_slot(
    redis_cluster: Redis, redis: Redis
) -> None:
    keys = ["{a}1", "{b}1", "{a}2", "{b}2", "{c}1"]
    assert redis_cluster.together(keys) == [[0, 2], [1, 3], [4]]
    assert redis.together(keys) == [[0, 1, 2, 3, 4]]


async def test_what_one_node_alone_would_return_wrongly_is_refused(redis_cluster: Redis) -> None:
    with pytest.raises(DataError, match="KEYS names no key"):
        await redis_cluster.keys("*")


async def test_a_cluster_is_found_by_any_of_its_nodes(redis_nodes: Nodes) -> None:
    login, _, hosts = redis_nodes.url.rpartition("@")
    last = hosts.split(",")[-1]
    async with open_redis(f"{login}@127.0.0.1:1,{last}") as client:
        await client.execute_many([("SET", key, "x") for key in KEYS])
        assert await client.get(KEYS[0]) == b"x"


async def _next_entry(client: Redis, stream: str) -> Any:
    return await client.xread({stream: "$"}, block=5000)
