"""The replica's readers: which boards there are, their histories, and the events of scores."""

import asyncio

from google.protobuf.message import DecodeError

from chassis.errors import Failed
from chassis.redis import UNAVAILABLE
from chassis.redis.stream import StreamReader
from chassis.telemetry import log
from protos.events_pb2 import ScoreEvents
from services.realtime.builder import Builder, channel_of
from services.realtime.channels import Channels
from services.realtime.source import Source
from services.realtime.store import LiveStore
from services.realtime.user_channels import Personal

BOARDS_S = 10.0  # between two questions for the boards
CHECK_S = 1.0  # between two comparisons of positions with Redis
WAIT_MS = 500  # of a read that finds nothing
RETRY_S = 0.2  # after a read that failed
BATCHES_MAX = 16  # of events in one read, so that writers keep up with the reader


class Follower:
    """Keeps the channels of this replica at what Redis and scores say."""

    def __init__(
        self,
        *,
        store: LiveStore,
        events: StreamReader,
        source: Source,
        channels: Channels,
        builder: Builder,
        personal: Personal,
    ) -> None:
        self._store = store
        self._events = events
        self._source = source
        self._channels = channels
        self._builder = builder
        self._personal = personal

    async def start(self) -> None:
        """Returns when the boards are known; waits for Redis and scores until then."""
        while True:
            try:
                await self._events.begin()
                await self._know_boards()
                return
            except (Failed, *UNAVAILABLE) as error:
                log.warning("start_delayed", error=repr(error))
                await asyncio.sleep(1)

    async def shown(self) -> None:
        """Returns when every board can be shown: some builder published it, now or before."""
        # Asked again and again, since an event would be kept forever for this one moment.
        while not all(  # noqa: ASYNC110
            self._channels.position(name).epoch for name in self._channels.names()
        ):
            await asyncio.sleep(0.02)

    async def follow_boards(self) -> None:
        """Adds boards that are new and removes those that are unavailable, forever."""
        while True:
            await asyncio.sleep(BOARDS_S)
            try:
                await self._know_boards()
            except (Failed, *UNAVAILABLE) as error:
                log.warning("boards_not_read", error=repr(error))

    async def follow_histories(self) -> None:
        """Takes what any replica publishes of the boards, forever."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        away = False
        while True:
            try:
                if away or loop.time() - checked > CHECK_S:
                    await self._check()
                    checked, away = loop.time(), False
                await self._take_publications()
            except UNAVAILABLE as error:
                if not away:
                    log.warning("histories_not_read", error=repr(error))
                away = True
                await asyncio.sleep(RETRY_S)

    async def follow_events(self) -> None:
        """Marks changed boards and publishes players' awards to them, forever."""
        available = True
        while True:
            try:
                await self._take_events()
                available = True
            except UNAVAILABLE as error:
                if available:
                    log.warning("events_not_read", error=repr(error))
                available = False
                await asyncio.sleep(RETRY_S)

    async def _know_boards(self) -> None:
        boards = await self._source.boards()
        names = [channel_of(board.name) for board in boards]
        for channel in names:
            if channel not in self._channels:
                self._channels.add(channel)
                await self._read_again(channel)
        for channel in self._channels.names():
            if channel not in names:
                self._channels.remove(channel)
        self._builder.know(boards)

    async def _take_publications(self) -> None:
        names = self._channels.names()
        if not names:
            await asyncio.sleep(WAIT_MS / 1000)
            return
        after = {name: self._channels.position(name).offset for name in names}
        for publication in await self._store.follow(after, wait_ms=WAIT_MS):
            if not self._channels.accept(publication):
                await self._read_again(publication.channel)

    async def _check(self) -> None:
        """Finds channels whose epoch changed or whose tail was lost: no read shows either."""
        names = self._channels.names()
        for name, stored in zip(names, await self._store.positions(names), strict=True):
            here = self._channels.position(name)
            if stored.epoch != here.epoch or stored.offset < here.offset:
                self._builder.doubt(name.removeprefix(channel_of("")))
                await self._read_again(name)

    async def _read_again(self, channel: str) -> None:
        stored = await self._store.stored(channel)
        self._channels.adopt(channel, stored.history)

    async def _take_events(self) -> None:
        for entry in await self._events.read(count=BATCHES_MAX, block_ms=WAIT_MS):
            try:
                batch = ScoreEvents.FromString(entry.batch)
            except DecodeError as error:
                # What follows must not wait for this entry's repair.
                log.error("event_unreadable", id=entry.id, error=repr(error))
                continue
            for board in batch.boards:
                self._builder.mark(board)
            for event in batch.events:
                self._personal.publish(event)
