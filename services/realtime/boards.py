"""The boards there are: read from scores now and then, and at once for a missing channel."""

import asyncio
from collections.abc import Sequence

from chassis.batching import Batcher
from chassis.errors import Failed, Unavailable
from chassis.redis import UNAVAILABLE
from chassis.telemetry import log
from services.realtime.builder import Builder, channel_of
from services.realtime.channels import Channels
from services.realtime.source import TIMEOUT_S, Source
from services.realtime.store import LiveStore

BOARDS_S = 10.0  # between two requests for the boards
PAUSE_S = 0.1  # from one request that is waited for to the next: unknown names cannot flood scores
WAITING_MAX = 65_536
SHOWN_S = 2.0  # by then the first publication of a board that was just made is there


class Boards:
    """Keeps the channels and the builder's boards as scores has them."""

    def __init__(
        self, source: Source, store: LiveStore, channels: Channels, builder: Builder
    ) -> None:
        self._source = source
        self._store = store
        self._channels = channels
        self._builder = builder
        self._read_s = -PAUSE_S  # of the event loop's clock
        # One request at a time, so that an older list never replaces a newer one.
        self._reads: Batcher[None, None] = Batcher(
            self._read_for, batch_max=WAITING_MAX, queue_max=WAITING_MAX, name="boards"
        )

    async def read(self) -> None:
        """Adds the boards made before this call, and removes those that no longer exist.

        One request serves all who wait, and there are at most ten a second. Raises Failed while
        scores or Redis is unavailable.
        """
        await self._reads.submit(None, timeout_s=2 * TIMEOUT_S)

    async def follow(self) -> None:
        """Reads forever."""
        while True:
            await asyncio.sleep(BOARDS_S)
            try:
                await self.read()
            except Failed as failed:
                log.warning("boards_not_read", code=failed.code)

    async def look_for(self, channel: str) -> None:
        """Returns once a board's channel can be shown, or is known not to exist.

        Raises Failed, or TimeoutError where no replica publishes it in time.
        """
        if channel.startswith(channel_of("")):
            await self.read()
            async with asyncio.timeout(SHOWN_S):
                await self._channels.shown(channel)

    async def _read_for(self, waiting: Sequence[None], timeout_s: float) -> Sequence[None]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._read_s + PAUSE_S - loop.time())
        self._read_s = loop.time()
        try:
            await self._read()
        except UNAVAILABLE as error:
            raise Unavailable(repr(error)) from error
        return waiting

    async def _read(self) -> None:
        windows = await self._source.windows()
        names = [channel_of(board) for board in windows]
        for channel in names:
            if channel not in self._channels.boards:
                self._channels.add(channel)
                _, history = await self._store.stored(channel)
                self._channels.adopt(channel, history)
        for channel in set(self._channels.boards).difference(names):
            self._channels.remove(channel)
        self._builder.set_boards(windows)
