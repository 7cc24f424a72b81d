"""Replicas of realtime against a real Redis and a scores that the test sets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest

from chassis.redis import Redis, open_redis
from chassis.testing import Certificates, served
from protos.arrows import callers
from protos.realtime_pb2_grpc import add_RealtimeServicer_to_server
from protos.scores_pb2_grpc import ScoresStub, add_ScoresServicer_to_server
from services.realtime.live import live
from services.realtime.service import RealtimeService
from services.realtime.source import Source
from services.realtime.tests.gateway import Gateway, attached
from services.realtime.tests.replica import Attach, NewReplica, Replica
from services.realtime.tests.scores import FakeScores


@pytest.fixture
async def scores(redis: Redis) -> FakeScores:
    return FakeScores(redis)


@pytest.fixture
async def scores_channel(
    scores: FakeScores, certificates: Certificates
) -> AsyncIterator[grpc.aio.Channel]:
    register = partial(add_ScoresServicer_to_server, scores)
    async with served(
        "scores",
        register,
        certificates=certificates,
        callers=callers("scores"),
        caller="realtime",
    ) as channel:
        yield channel


@pytest.fixture
async def new_replica(
    scores_channel: grpc.aio.Channel, certificates: Certificates, redis_url: str
) -> AsyncIterator[NewReplica]:

    @asynccontextmanager
    async def parts(
        url: str, **limits: Any
    ) -> AsyncIterator[tuple[RealtimeService, grpc.aio.Channel]]:
        async with (
            open_redis(url) as redis,
            live(redis, Source(ScoresStub(scores_channel))) as (channels, users, boards),
        ):
            service = RealtimeService(channels, users, boards, **limits)
            async with served(
                "realtime",
                partial(add_RealtimeServicer_to_server, service),
                certificates=certificates,
                callers=callers("realtime"),
                caller="gateway",
            ) as channel:
                yield service, channel

    async with AsyncExitStack() as stack:

        async def new(url: str = redis_url, **limits: float) -> Replica:
            replica = Replica()
            await replica.start(partial(parts, url, **limits))
            stack.push_async_callback(replica.stop)
            return replica

        yield new


@pytest.fixture
async def replica(new_replica: NewReplica) -> Replica:
    return await new_replica()


@pytest.fixture
async def attach() -> AsyncIterator[Attach]:
    async with AsyncExitStack() as stack:

        async def new(replica: Replica, *channels: str) -> Gateway:
            return await stack.enter_async_context(attached(replica.channel, *channels))

        yield new
