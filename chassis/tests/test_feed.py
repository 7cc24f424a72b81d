"""A feed: what the stream brings, and what only the owner has."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from prometheus_client import REGISTRY

from chassis.errors import Unavailable
from chassis.process import background
from chassis.redis import Redis, feed, open_redis
from chassis.redis.feed import Feed
from chassis.testing import eventually
from chassis.tests.gate import Gate


@dataclass(frozen=True)
class Entry:
    version: int


@dataclass
class Owner:
    """Returns its entries on request, and records the requests."""

    entries: list[Entry] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    unavailable: bool = False

    async def since(self, version: int) -> Sequence[Entry]:
        self.requests.append(version)
        if self.unavailable:
            raise Unavailable
        return [entry for entry in self.entries if entry.version > version][: feed.PAGE]


def read(batch: bytes) -> Iterable[Entry]:
    return [Entry(int(version)) for version in batch.split()]


def follower(owner: Owner, known: list[int]) -> Feed[Entry]:
    return Feed(
        "state",
        name="state",
        since=owner.since,
        read=read,
        learn=lambda entry: known.append(entry.version),
    )


async def test_catching_up_goes_page_by_page_from_the_last_version() -> None:
    owner, known = Owner([Entry(n) for n in range(1, 2501)]), list[int]()
    following = follower(owner, known)

    await following.catch_up()
    await following.catch_up()

    assert known == list(range(1, 2501))
    assert owner.requests == [0, 1000, 2000, 2500]


async def test_an_entry_between_the_first_request_and_the_stream_is_not_missed(
    redis: Redis,
) -> None:
    """It is before the position that is read from, and after the first request."""
    owner, known = Owner(), list[int]()
    following = follower(owner, known)
    await following.catch_up()
    owner.entries = [Entry(1)]
    await redis.xadd("state", {"batch": b"1"})

    async with background(following.follow(redis)):

        async def learnt() -> bool:
            return 1 in known

        await eventually(learnt)


async def test_the_stream_brings_entries_without_a_request_and_newer_ones_skip_none(
    redis: Redis,
) -> None:
    owner, known = Owner(), list[int]()
    following = follower(owner, known)
    async with background(following.follow(redis)):

        async def blocked() -> bool:
            return (await redis.info("clients"))["blocked_clients"] == 1 and len(
                owner.requests
            ) == 2

        await eventually(blocked)
        await redis.xadd("state", {"batch": b"2"})

        async def learnt() -> bool:
            return 2 in known

        await eventually(learnt)
    owner.entries = [Entry(1), Entry(2)]
    await following.catch_up()

    assert owner.requests == [0, 0, 0]
    assert known == [2, 1, 2]


async def test_an_unavailable_owner_ends_nothing(redis: Redis) -> None:
    owner, known = Owner([Entry(1)], unavailable=True), list[int]()
    following = asyncio.create_task(follower(owner, known).follow(redis))

    async def requested() -> bool:
        return len(owner.requests) >= 2

    await eventually(requested)

    assert not following.done()
    following.cancel()


async def test_without_the_stream_its_owner_gets_two_requests_a_second(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with own_redis() as url:
        pass
    owner, known = Owner(), list[int]()
    redis = Redis(url)
    async with background(follower(owner, known).follow(redis)):

        async def requested() -> bool:
            return len(owner.requests) >= 2

        await eventually(requested)
        owner.entries = [Entry(1)]

        async def learnt() -> bool:
            return known == [1]

        await eventually(learnt, timeout_s=3)
    await redis.aclose()


async def test_entries_lost_from_the_stream_are_fetched_from_the_owner_at_once(
    redis: Redis,
) -> None:
    """By the regular request alone they would be missing for up to 30 s."""
    owner, known = Owner(), list[int]()
    await redis.xadd("state", {"batch": b"1"})
    following = follower(owner, known)
    async with background(following.follow(redis)):

        async def waits() -> bool:
            blocked = (await redis.info("clients"))["blocked_clients"]
            return blocked == 1 and len(owner.requests) >= 1

        await eventually(waits)
        owner.entries = [Entry(2)]
        # In one step, so that the reader cannot read between the two.
        add = ("XADD", "state", "*", "batch", "2")
        await redis.execute_many([add, ("DEL", "state")], atomic=True)

        async def learnt() -> bool:
            return known == [2]

        await eventually(learnt)


def behind_s() -> float:
    value = REGISTRY.get_sample_value("feed_behind_seconds", {"feed": "state"})
    assert value is not None
    return value


async def rises_above(limit_s: float) -> None:
    async def risen() -> bool:
        return behind_s() > limit_s

    await eventually(risen)


async def up_to_date() -> bool:
    return behind_s() == 0


async def test_the_metric_rises_while_neither_the_stream_nor_the_owner_can_be_read(
    gate: Gate, redis: Redis
) -> None:
    owner, known = Owner(), list[int]()
    following = follower(owner, known)
    await following.catch_up()
    assert behind_s() == 0
    async with (
        open_redis(f"redis://127.0.0.1:{gate.port}") as followed,
        background(following.follow(followed)),
    ):

        async def blocked() -> bool:
            return (await redis.info("clients"))["blocked_clients"] == 1 and behind_s() == 0

        await eventually(blocked)
        owner.unavailable = True
        gate.shut = True
        gate.cut()
        await rises_above(0.6)
        # It goes on, also after further failures of both.
        await rises_above(behind_s() + 0.6)

        gate.shut = False
        await eventually(up_to_date)  # by the stream alone
        gate.shut = True
        gate.cut()
        await rises_above(0.0)
        owner.unavailable = False
        await eventually(up_to_date)  # by the owner alone


async def test_the_metric_rises_until_the_owner_makes_up_for_what_the_stream_lost(
    redis: Redis,
) -> None:
    owner, known = Owner(), list[int]()
    following = follower(owner, known)
    await redis.xadd("state", {"batch": b"1"})
    async with background(following.follow(redis)):

        async def waits() -> bool:
            blocked = (await redis.info("clients"))["blocked_clients"]
            return blocked == 1 and behind_s() == 0

        await eventually(waits)
        owner.unavailable = True
        add = ("XADD", "state", "*", "batch", "2")
        await redis.execute_many([add, ("DEL", "state")], atomic=True)
        await rises_above(0.1)
        before_s = behind_s()
        await redis.xadd("state", {"batch": b"3"})

        async def learnt() -> bool:
            return 3 in known

        await eventually(learnt)
        assert behind_s() > before_s  # the stream is read, and its loss is not made up for
        owner.unavailable = False
        await following.catch_up()

        assert behind_s() == 0
