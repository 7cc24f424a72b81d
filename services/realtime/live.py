"""The live channels, composed and running."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.process import background
from chassis.redis import Redis
from chassis.redis.stream import StreamReader
from protos.streams import AWARDS
from services.realtime.builder import Builder
from services.realtime.channels import Channels
from services.realtime.follower import Follower
from services.realtime.source import Source
from services.realtime.store import LiveStore
from services.realtime.user_channels import UserChannels


@asynccontextmanager
async def live(redis: Redis, source: Source) -> AsyncIterator[tuple[Channels, UserChannels]]:
    """The channels, with their builder and readers running within the context.

    Begins once every board can be shown. An unexpected error of a reader ends the context.
    """
    store, channels = LiveStore(redis), Channels()
    builder = Builder(store, source, channels)
    users = UserChannels(source, channels)
    follower = Follower(
        store=store,
        events=StreamReader(redis, AWARDS),
        source=source,
        channels=channels,
        builder=builder,
        users=users,
    )
    await follower.start()
    async with background(
        builder.hold_leases(),
        builder.build(),
        follower.follow_boards(),
        follower.follow_histories(),
        follower.follow_events(),
    ):
        await follower.all_shown()
        yield channels, users
    await builder.release_leases()
