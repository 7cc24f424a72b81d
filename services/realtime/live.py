"""The live channels, composed, and the readers that keep them up to date."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.message import DecodeError

from chassis.errors import Failed
from chassis.process import background
from chassis.redis import UNAVAILABLE, Redis
from chassis.redis.stream import Bound, EntriesLost, StreamReader
from chassis.telemetry import log
from protos.events_pb2 import ScoreEvents
from protos.streams import AWARDS
from services.realtime.boards import Boards
from services.realtime.builder import Builder, channel_of
from services.realtime.channels import Channels
from services.realtime.source import Source
from services.realtime.store import HISTORY, LiveStore
from services.realtime.user_channels import UserChannels

CHECK_S = 1.0  # between two comparisons of positions with Redis
WAIT_MS = 500  # of a read that finds nothing
RETRY_S = 0.2  # after a read that failed
BATCHES_MAX = 16  # of events in one read, so that writers keep up with the reader


@asynccontextmanager
async def live(
    redis: Redis, source: Source, *, history: Bound = HISTORY
) -> AsyncIterator[tuple[Channels, UserChannels, Boards]]:
    """The channels, with their builder and readers running within the context.

    Begins once every board can be shown. An unexpected error of a reader ends the context.
    """
    replica = _Live(redis, source, history)
    await replica.start()
    async with background(
        replica.builder.hold_leases(),
        replica.builder.build(),
        replica.boards.follow(),
        replica.follow_histories(),
        replica.follow_events(),
        replica.refresh_users(),
    ):
        await replica.all_shown()
        yield replica.channels, replica.users, replica.boards
    await replica.builder.release_leases()


class _Live:
    """The parts of one replica, and the readers that keep its channels up to date."""

    def __init__(self, redis: Redis, source: Source, history: Bound) -> None:
        self._store = LiveStore(redis, history)
        self._events = StreamReader(redis, AWARDS)
        self.channels = Channels()
        self.builder = Builder(self._store, source, self.channels)
        self.users = UserChannels(source, self.channels)
        self._events_lost = asyncio.Event()
        self.boards = Boards(source, self._store, self.channels, self.builder)

    async def start(self) -> None:
        """Returns when the boards are read; waits for Redis and scores until then."""
        while True:
            try:
                await self._events.begin()
                await self.boards.read()
                return
            except (Failed, *UNAVAILABLE) as error:
                log.warning("start_delayed", error=repr(error))
                await asyncio.sleep(1)

    async def all_shown(self) -> None:
        """Returns when every board has a publication of any builder."""
        for channel in tuple(self.channels.boards):
            await self.channels.shown(channel)

    async def follow_histories(self) -> None:
        """Accepts what any replica publishes of the boards, forever."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        available = True
        while True:
            try:
                if not available or loop.time() - checked > CHECK_S:
                    await self._check()
                    checked, available = loop.time(), True
                await self._take_publications()
            except UNAVAILABLE as error:
                if available:
                    log.warning("histories_not_read", error=repr(error))
                available = False
                await asyncio.sleep(RETRY_S)

    async def follow_events(self) -> None:
        """Marks changed boards as dirty and publishes awards on user channels, forever."""
        available = True
        while True:
            try:
                await self._take_events()
                available = True
            except EntriesLost:
                # Which boards and players they were of is not known: all of them are read.
                self.builder.mark_all_dirty()
                self._events_lost.set()
            except UNAVAILABLE as error:
                if available:
                    log.warning("events_not_read", error=repr(error))
                available = False
                await asyncio.sleep(RETRY_S)

    async def refresh_users(self) -> None:
        """Sends watchers their players' states whenever events were lost, forever."""
        while True:
            await self._events_lost.wait()
            self._events_lost.clear()
            await self.users.refresh()

    async def _take_publications(self) -> None:
        after = {name: here.position.offset for name, here in self.channels.boards.items()}
        if not after:
            await asyncio.sleep(WAIT_MS / 1000)
            return
        for publication in await self._store.follow(after, wait_ms=WAIT_MS):
            if not self.channels.accept(publication):
                await self._read_again(publication.channel)

    async def _check(self) -> None:
        """Finds channels whose epoch changed or whose end was lost, which no read shows."""
        names = list(self.channels.boards)
        for name, stored in zip(names, await self._store.positions(names), strict=True):
            here = self.channels.boards[name].position
            if stored.epoch != here.epoch or stored.offset < here.offset:
                self.builder.reread(name.removeprefix(channel_of("")))
                await self._read_again(name)

    async def _read_again(self, channel: str) -> None:
        _, history = await self._store.stored(channel)
        self.channels.adopt(channel, history)

    async def _take_events(self) -> None:
        for entry in await self._events.read(count=BATCHES_MAX, block_ms=WAIT_MS):
            try:
                batch = ScoreEvents.FromString(entry.batch)
            except DecodeError as error:
                # Skipped, so that later entries are read.
                log.error("event_unreadable", id=entry.id, error=repr(error))
                continue
            # The rows of an entry were written together.
            awarded_at_ms = batch.events[0].at_ms if batch.events else 0
            for board in batch.boards:
                self.builder.mark_dirty(board, awarded_at_ms=awarded_at_ms)
            for event in batch.events:
                self.users.publish(event)
