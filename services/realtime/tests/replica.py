"""A replica of realtime within the test's process."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import grpc

from services.realtime.service import RealtimeService
from services.realtime.tests.gateway import Gateway

Parts = Callable[[], AbstractAsyncContextManager[tuple[RealtimeService, grpc.aio.Channel]]]


class Replica:
    """A replica in a task of its own, so that it can be killed without a shutdown."""

    service: RealtimeService
    channel: grpc.aio.Channel

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, parts: Parts) -> None:
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

    async def _run(self, parts: Parts) -> None:
        async with parts() as (self.service, self.channel):
            self._ready.set()
            await self._stop.wait()


class NewReplica(Protocol):
    """Starts a replica on the Redis at `url`; `limits` go to its service."""

    def __call__(self, url: str = ..., **limits: float) -> Awaitable[Replica]: ...


class Attach(Protocol):
    """Attaches a gateway that watches those channels."""

    def __call__(self, replica: Replica, *channels: str) -> Awaitable[Gateway]: ...
