"""Replicas of realtime against a real Redis and a scores that the test sets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from chassis.redis import open_redis
from chassis.testing import Certificates, served
from protos.arrows import callers
from protos.realtime_pb2_grpc import add_RealtimeServicer_to_server
from protos.scores_pb2_grpc import ScoresStub, add_ScoresServicer_to_server
from services.realtime.live import live
from services.realtime.service import RealtimeService
from services.realtime.source import Source
from services.realtime.store import LiveStore
from services.realtime.tests.gateway import Gateway, attached
from services.realtime.tests.scores import FakeScores


class Replica:
    """A replica in a task of its own, so that it can be killed without its farewells."""

    service: RealtimeService
    channel: grpc.aio.Channel

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, parts: Callable[[], Any]) -> None:
        self._task = asyncio.create_task(self._run(parts))
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([self._task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def kill(self) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.wait([self._task])

    async def stop(self) -> None:
        assert self._task
        self._stop.set()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _run(self, parts: Callable[[], Any]) -> None:
        async with parts() as (self.service, self.channel):
            self._ready.set()
            await self._stop.wait()


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
) -> AsyncIterator[Callable[..., Any]]:
    """`await new_replica()`: a replica that serves; keyword arguments go to its service."""

    @asynccontextmanager
    async def parts(url: str, **limits: Any) -> AsyncIterator[Any]:
        async with (
            open_redis(url) as redis,
            open_redis(url, size_max=2, timeout_s=5) as following,
            live(
                LiveStore(redis, following),
                Source(ScoresStub(scores_channel)),
                face=partial(RealtimeService, **limits),
            ) as service,
            served(
                "realtime",
                partial(add_RealtimeServicer_to_server, service),
                certificates=certificates,
                callers=callers("realtime"),
                caller="gateway",
            ) as channel,
        ):
            yield service, channel

    async with AsyncExitStack() as stack:

        async def new(url: str = redis_url, **limits: Any) -> Replica:
            replica = Replica()
            await replica.start(partial(parts, url, **limits))
            stack.push_async_callback(replica.stop)
            return replica

        yield new


@pytest.fixture
async def replica(new_replica: Callable[..., Any]) -> Replica:
    started: Replica = await new_replica()
    return started


@pytest.fixture
async def attach() -> AsyncIterator[Callable[..., Any]]:
    """`await attach(replica, "leaderboard:all_time", …)`: a gateway that watches those."""
    async with AsyncExitStack() as stack:

        async def new(replica: Replica, *channels: str) -> Gateway:
            return await stack.enter_async_context(attached(replica.channel, *channels))

        yield new
