"""The parts of realtime put together and at work."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.realtime.builder import Builder
from services.realtime.channels import Channels
from services.realtime.follower import Follower
from services.realtime.personal import Personal
from services.realtime.service import RealtimeService
from services.realtime.source import Source
from services.realtime.store import LiveStore


@asynccontextmanager
async def live(
    store: LiveStore,
    source: Source,
    *,
    face: Callable[[Channels, Personal], RealtimeService] = RealtimeService,
) -> AsyncIterator[RealtimeService]:
    """The service, with its builder and readers running within the context.

    Begins once every board can be shown. What a reader cannot cope with ends the context.
    """
    channels = Channels()
    builder = Builder(store, source, channels)
    personal = Personal(source, channels)
    follower = Follower(store, source, channels, builder, personal)
    await follower.start()
    works = (
        builder.hold(),
        builder.build(),
        follower.follow_boards(),
        follower.follow_histories(),
        follower.follow_events(),
    )
    async with asyncio.TaskGroup() as tasks:
        working = {tasks.create_task(work) for work in works}
        try:
            await follower.shown()
            yield face(channels, personal)
        finally:
            await _end(working)
    await builder.give_back()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    # Redis' client awaits its sends by `asyncio.wait_for`, which before Python 3.12 loses a
    # cancellation that comes as the send returns. So we ask until all have ended.
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.1)
