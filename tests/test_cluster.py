"""A Redis Cluster serves every unit: each script and each command finds its keys in one slot."""

import asyncio
from pathlib import Path

from aiohttp import web

from chassis import clock
from chassis.ids import uuid7
from chassis.redis import Redis
from chassis.testing import eventually
from gateway.idempotency import REPLAYED, Idempotency, Repeatable
from gateway.limits import REQUESTS, SCORES, Check, Limiter, RateLimited
from gateway.sanctions import STREAM as SANCTIONS
from gateway.sanctions import Sanctions
from gateway.tests.edge import KEYS
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction
from services.fraud.windows import Attempt, Windows
from services.realtime.channels import Position, Publication
from services.realtime.store import Draft, LiveStore

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path for folder in ("gateway", "services") for path in (ROOT / folder).rglob("*.lua")
)


async def test_limits_are_kept_exactly_though_a_batch_spans_all_nodes(
    redis_cluster: Redis,
) -> None:
    limiter = Limiter(redis_cluster, lifted=False)
    users = [uuid7() for _ in range(40)]

    async def passes(user: str) -> bool:
        try:
            await limiter.take([Check(REQUESTS, "cb007100"), Check(SCORES, user)])
        except RateLimited:
            return False
        return True

    async def passed(user: str) -> int:
        return sum(await asyncio.gather(*(passes(user) for _ in range(2))))

    # 100 requests of one address in a minute, each counted although its user is elsewhere.
    assert sum(await asyncio.gather(*map(passed, users))) == 80
    assert sum(await asyncio.gather(*map(passed, users))) == 20


async def test_bursts_are_found_though_a_batch_spans_all_nodes(redis_cluster: Redis) -> None:
    windows = Windows(redis_cluster, limited=True)
    users = [uuid7() for _ in range(20)]
    batch = [Attempt(uuid7(), uuid7(), user, accepted=True) for _ in range(9) for user in users]

    counted = await windows.count(batch)

    assert [i for i, found in enumerate(counted) if found.burst] == list(range(160, 180))
    assert all(found.fixed or found.burst for found in await windows.count(batch))


async def test_live_channels_and_leases_are_followed_on_a_cluster(redis_cluster: Redis) -> None:
    store = LiveStore(redis_cluster)
    boards = [f"b{n}" for n in range(8)]
    channels = [f"leaderboard:{board}" for board in boards]
    fences = await store.lease(boards, holder="me", ttl_ms=5000)
    following = asyncio.create_task(store.follow(dict.fromkeys(channels, 0), wait_ms=5000))
    await asyncio.sleep(0.1)

    drafts = [_draft(*draft) for draft in zip(channels, fences, strict=True)]
    assert await store.publish(drafts) == ["published"] * 8
    assert await following
    found = await store.follow(dict.fromkeys(channels, 0), wait_ms=100)
    assert {publication.channel for publication in found} == set(channels)
    assert await store.positions(channels) == [Position("e", 1)] * 8
    assert (await store.stored(channels[0])).position == Position("e", 1)


async def test_a_call_under_a_key_is_answered_alike_on_a_cluster(redis_cluster: Redis) -> None:
    calls = Idempotency(redis_cluster, KEYS)

    async def run() -> web.StreamResponse:
        return web.Response(body=uuid7().encode(), headers={"Content-Type": "text/plain"})

    for n in range(12):
        call = Repeatable(bytes([n]) * 32, bytes(32))
        first, again = [
            await calls.answer(call, run, kept=True, budget_s=5, request_id="r") for _ in range(2)
        ]
        assert isinstance(first, web.Response)
        assert isinstance(again, web.Response)
        assert again.headers[REPLAYED] == "true"
        assert again.body == first.body


async def test_sanctions_are_heard_on_a_cluster(redis_cluster: Redis) -> None:
    async def none_yet(version: int) -> list[Sanction]:
        return []

    sanctions = Sanctions(none_yet)
    following = asyncio.create_task(sanctions.follow(redis_cluster))
    banned = SanctionEvents(sanctions=[Sanction(user_id="u", kind=Sanction.BANNED, version=1)])

    async def heard() -> bool:
        await redis_cluster.xadd(SANCTIONS, {"batch": banned.SerializeToString()})
        return sanctions.banned("u")

    assert await eventually(heard)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def _draft(channel: str, fence: int) -> Draft:
    publication = Publication(
        channel=channel, position=Position("e", 1), frame=b"f", snapshot=b"s", at_ms=clock.now_ms()
    )
    return Draft(publication=publication, fence=fence, after=Position("", 0))
