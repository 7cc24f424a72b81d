"""A state that another unit owns, followed from its stream and caught up by version.

The stream tells at once and may lose entries; the owner, asked for all that is newer than a
version, tells everything, and is asked every 30 s, or twice a second while Redis is away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from chassis.errors import Failed
from chassis.redis import Redis
from chassis.telemetry import log

CATCH_UP_S = 30.0
CATCH_UP_AWAY_S = 0.5  # while Redis tells nothing
PAGE = 1000
_BLOCK_MS = 1000


class Versioned(Protocol):
    """An entry of the state; versions rise over all of its entries."""

    @property
    def version(self) -> int:
        """Of the entry."""


Entry = TypeVar("Entry", bound=Versioned)


class Feed(Generic[Entry]):
    """Hands every entry to `learn`: at least once, and not always in the order of versions.

    `since(version)` answers at most 1000 entries newer than `version`, oldest first. `read`
    makes entries of the field `batch` of a stream entry; it may raise DecodeError.
    """

    def __init__(
        self,
        stream: str,
        *,
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

    async def catch_up(self) -> None:
        """Asks the owner for what is not known yet. Raises Failed."""
        while True:
            page = await self._since(self._caught_up)
            for entry in page:
                self._learn(entry)
                # Only here: the stream may bring a newer version before an older one.
                self._caught_up = max(self._caught_up, entry.version)
            if len(page) < PAGE:
                return

    async def follow(self, redis: Redis) -> None:
        """Reads the stream and catches up, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_stream(redis))
            tasks.create_task(self._catch_up_for_ever())

    async def _catch_up_for_ever(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self.catch_up()
            except Failed as failed:
                log.warning("feed_not_caught_up", stream_key=self._stream, error=repr(failed))
            try:
                async with asyncio.timeout(CATCH_UP_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass  # Nothing says that anything is missing; but what is lost says nothing.

    async def _follow_stream(self, redis: Redis) -> None:
        # Everything here is what redis-py answers, whose types say little.
        position: Any = None
        found: Any
        away = False
        while True:
            try:
                if position is None:
                    # What stands there already is in what the owner answers to `catch_up`.
                    newest = await redis.xrevrange(self._stream, count=1)
                    position = newest[0][0] if newest else b"0"
                    self._wanted.set()  # what came before that position, and after the last time
                found = await redis.xread({self._stream: position}, count=PAGE, block=_BLOCK_MS)
                away = False
            except (RedisError, OSError) as error:
                if not away:
                    log.warning("feed_away", stream_key=self._stream, error=repr(error))
                away = True
                self._wanted.set()
                await asyncio.sleep(CATCH_UP_AWAY_S)
                continue
            for _, entries in found or ():
                for entry_id, fields in entries:
                    position = entry_id
                    self._take(fields.get(b"batch", b""))

    def _take(self, batch: bytes) -> None:
        try:
            entries = self._read(batch)
        except DecodeError:
            log.error("feed_unreadable", stream_key=self._stream)
            return
        for entry in entries:
            self._learn(entry)
