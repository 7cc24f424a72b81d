"""What the gateway's own metrics show: limits that refuse, and requests shed."""

import asyncio

import aiohttp
import pytest
from prometheus_client import REGISTRY

from chassis.batching import QueueFull
from chassis.errors import Unavailable
from chassis.redis import Redis
from chassis.testing import Certificates
from gateway.edge.limits import Check, Limiter, Policy, RateLimited, RequestLimits
from gateway.edge.peers import Peers
from gateway.live.limits import LiveLimits
from gateway.tests.edge import UPDATE, Edge
from gateway.tests.feed import Live, live
from gateway.tests.services import ADA

POLICIES = [RequestLimits().requests, RequestLimits().actions, RequestLimits().scores]


def refused(limit: str) -> float:
    found = REGISTRY.get_sample_value("limits_refused_total", {"limit": limit})
    assert found is not None, "it is there before its first event"
    return found


def shed(reason: str) -> float:
    found = REGISTRY.get_sample_value("requests_shed_total", {"reason": reason})
    assert found is not None, "it is there before its first event"
    return found


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_each_refusal_by_a_limit_is_counted(redis: Redis, policy: Policy) -> None:
    limiter, checks = Limiter(redis, Peers(redis), disabled=False), [Check(policy, ADA)]
    before = refused(policy.name)
    for _ in range(policy.per_minute):
        await limiter.take(checks)
    assert refused(policy.name) == before

    for _ in range(2):
        with pytest.raises(RateLimited):
            await limiter.take(checks)

    assert refused(policy.name) == before + 2


async def test_a_limit_that_is_disabled_counts_no_refusals(redis: Redis) -> None:
    policy = Policy("actions", 1)
    limiter, checks = Limiter(redis, Peers(redis), disabled=True), [Check(policy, ADA)]
    before = refused("actions")

    for _ in range(3):
        await limiter.take(checks)

    assert refused("actions") == before


async def test_sockets_beyond_a_limit_of_their_caller_are_counted(
    certificates: Certificates,
) -> None:
    user, address = refused("sockets_per_user"), refused("sockets_per_address")
    limits = LiveLimits(sockets_per_user=1, sockets_per_address=2)
    async with live(certificates, limits=limits) as server:
        async with server.open() as first, server.open() as second:
            await first.connect(token="ada")
            await second.send("connect", token="ada")
            assert await second.end() == 4504
            assert refused("sockets_per_user") == user + 1
            assert refused("sockets_per_address") == address
        async with server.open() as first, server.open(), server.open() as third:
            assert await third.end() == 4504
            await first.connect()

    assert refused("sockets_per_user") == user + 1
    assert refused("sockets_per_address") == address + 1


async def turned_away(server: Live) -> int:
    """The status of a handshake that is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
        async with server.open():
            pass
    return failed.value.status


@pytest.mark.parametrize(
    ("reason", "limits", "status"),
    [
        ("sockets_per_process", LiveLimits(sockets_per_process=1), 503),
        ("handshakes_per_s", LiveLimits(handshakes_per_s=1), 429),
    ],
    ids=["sockets_per_process", "handshakes_per_s"],
)
async def test_handshakes_that_this_process_has_no_room_for_are_shed(
    certificates: Certificates, reason: str, limits: LiveLimits, status: int
) -> None:
    before = shed(reason)
    async with live(certificates, limits=limits) as server, server.open():
        assert shed(reason) == before
        assert await turned_away(server) == status

    assert shed(reason) == before + 1


async def test_handshakes_during_the_drain_are_shed(certificates: Certificates) -> None:
    before = shed("draining")
    async with live(certificates) as server, server.open():
        closing = asyncio.create_task(server.handler.shutdown(1.0))
        await asyncio.sleep(0)
        assert await turned_away(server) == 503
        await closing

    assert shed("draining") == before + 1


async def test_requests_that_a_full_queue_refuses_are_shed(edge: Edge) -> None:
    edge.fakes.answers["Award"] = QueueFull()
    before = shed("queue_full")

    answer = await edge.play("/scores/update", UPDATE)

    assert answer.status == 503
    assert shed("queue_full") == before + 1


async def test_other_failures_are_not_shed(edge: Edge) -> None:
    edge.fakes.answers["Award"] = Unavailable()
    before = shed("queue_full")

    answer = await edge.play("/scores/update", UPDATE)

    assert answer.status == 503
    assert shed("queue_full") == before
