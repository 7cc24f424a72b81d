"""A versioned state that another unit owns, followed from its stream and resynchronised.

The stream is fast and may lose entries. The owner returns everything newer than a version; it is
called every 30 s, or twice a second while Redis is unavailable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError
from prometheus_client import Gauge

from chassis.errors import Failed
from chassis.redis.client import UNAVAILABLE, Redis
from chassis.redis.stream import EntriesLost, StreamReader
from chassis.telemetry import log

CATCH_UP_S = 30.0
RETRY_S = 0.5  # while Redis is unavailable
PAGE = 1000
_BLOCK_MS = 1000

_behind_s = Gauge(
    "feed_behind_seconds",
    "Since the state was last known to be up to date; 0: it is",
    ["feed"],
)


class Versioned(Protocol):
    """An entry of the state; versions rise over all of its entries."""

    @property
    def version(self) -> int:
        """Of the entry."""


Entry = TypeVar("Entry", bound=Versioned)


class Feed(Generic[Entry]):
    """Hands every entry to `learn`: at least once, and not always in the order of versions.

    `since(version)` returns at most 1000 entries newer than `version`, oldest first. `read`
    makes entries of the field `batch` of a stream entry; it may raise DecodeError. `name` is the
    feed's in the metrics.
    """

    def __init__(
        self,
        stream: str,
        *,
        name: str,
        since: Callable[[int], Awaitable[Sequence[Entry]]],
        read: Callable[[bytes], Iterable[Entry]],
        learn: Callable[[Entry], None],
    ) -> None:
        self._stream = stream
        self._since = since
        self._read = read
        self._learn = learn
        self._caught_up = 0  # every entry up to this version is known
        self._wanted = asyncio.Event()
        self._freshness = _Freshness()
        _behind_s.labels(name).set_function(self._freshness.behind_s)

    async def catch_up(self) -> None:
        """Fetches from the owner what is not known yet. Raises Failed."""
        losses = self._freshness.losses
        try:
            while True:
                page = await self._since(self._caught_up)
                for entry in page:
                    self._learn(entry)
                    # Only here: the stream may bring a newer version before an older one.
                    self._caught_up = max(self._caught_up, entry.version)
                if len(page) < PAGE:
                    break
        except Failed:
            self._freshness.owner_failed()
            raise
        self._freshness.caught_up(losses)

    async def follow(self, redis: Redis) -> None:
        """Reads the stream and catches up, forever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_stream(redis))
            tasks.create_task(self._catch_up_forever())

    async def _catch_up_forever(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self.catch_up()
            except Failed as failed:
                log.warning("feed_not_caught_up", stream_key=self._stream, error=repr(failed))
            # Also when not wanted, since lost entries leave no trace.
            with suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_S):
                    await self._wanted.wait()

    async def _follow_stream(self, redis: Redis) -> None:
        # From the newest entry on: what is older is in what the owner returns to `catch_up`.
        reader = StreamReader(redis, self._stream)
        available = True
        while True:
            try:
                if reader.position is None:
                    await reader.begin()
                    self._freshness.lost()
                    self._wanted.set()  # what came before that position, and after the last call
                entries = await reader.read(count=PAGE, block_ms=_BLOCK_MS)
            except EntriesLost:
                self._freshness.lost()
                self._wanted.set()  # the owner has all of them
                continue
            except UNAVAILABLE as error:
                if available:
                    log.warning("feed_unavailable", stream_key=self._stream, error=repr(error))
                    self._freshness.stream_failed()
                available = False
                self._wanted.set()
                await asyncio.sleep(RETRY_S)
                continue
            available = True
            for entry in entries:
                self._take(entry.batch)
            if len(entries) < PAGE:
                self._freshness.read_to_end()

    def _take(self, batch: bytes) -> None:
        try:
            entries = self._read(batch)
        except DecodeError:
            log.error("feed_unreadable", stream_key=self._stream)
            return
        for entry in entries:
            self._learn(entry)


class _Freshness:
    """Whether the state is up to date, and when it was last known to be.

    It is by the stream, read to its end, or by the owner, called since the stream failed. What the
    stream has lost only the owner makes up for.
    """

    def __init__(self) -> None:
        self.losses = 0  # of the stream
        self._made_up = 0  # of these
        self._by_stream = self._by_owner = False
        self._seen_s = time.monotonic()

    def behind_s(self) -> float:
        return 0.0 if self._current else time.monotonic() - self._seen_s

    def read_to_end(self) -> None:
        self._by_stream = True
        self._see()

    def lost(self) -> None:
        self.losses += 1

    def stream_failed(self) -> None:
        self._by_stream = self._by_owner = False

    def caught_up(self, losses: int) -> None:
        """The owner returned everything; there were `losses` when the calls began."""
        self._made_up = losses
        self._by_owner = True
        self._see()

    def owner_failed(self) -> None:
        self._by_owner = False

    @property
    def _current(self) -> bool:
        return self._made_up == self.losses and (self._by_stream or self._by_owner)

    def _see(self) -> None:
        if self._current:
            self._seen_s = time.monotonic()
