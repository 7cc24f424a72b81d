"""Realtime composed and running."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chassis.process import background
from chassis.redis import Redis
from chassis.redis.stream import StreamReader
from protos.streams import AWARDS
from services.realtime.builder import Builder
from services.realtime.channels import Channels
from services.realtime.follower import Follower
from services.realtime.service import RealtimeService
from services.realtime.source import Source
from services.realtime.store import LiveStore
from services.realtime.user_channels import Personal


@asynccontextmanager
async def live(
    redis: Redis,
    source: Source,
    *,
    face: Callable[[Channels, Personal], RealtimeService] = RealtimeService,
) -> AsyncIterator[RealtimeService]:
    """The service, with its builder and readers running within the context.

    Begins once every board can be shown. What a reader cannot cope with ends the context.
    """
    store, channels = LiveStore(redis), Channels()
    builder = Builder(store, source, channels)
    personal = Personal(source, channels)
    follower = Follower(
        store=store,
        events=StreamReader(redis, AWARDS),
        source=source,
        channels=channels,
        builder=builder,
        personal=personal,
    )
    await follower.start()
    async with background(
        builder.hold(),
        builder.build(),
        follower.follow_boards(),
        follower.follow_histories(),
        follower.follow_events(),
    ):
        await follower.shown()
        yield face(channels, personal)
    await builder.give_back()
