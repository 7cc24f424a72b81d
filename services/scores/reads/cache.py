"""The first entries of boards in this process's memory, for a second or until they change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from chassis.redis import Redis
from chassis.telemetry import log
from services.scores.boards import keyspace
from services.scores.boards.ranking import Page
from services.scores.reads.live import Where

KEPT_S = 1.0
SILENCE_S = 1.0  # after which the subscription is asked whether it is there


@dataclass(slots=True)
class Kept:
    """The first entries of a board, and what its readers made of them, by keys of theirs."""

    where: Where
    page: Page
    until: float  # of the event loop's clock
    made: dict[Any, Any] = field(default_factory=dict)


class Cache:
    """Keeps only what a message on `cache:invalidate` would drop: nothing without a subscription.

    Whoever asks for what is not kept asks together with all who do at that moment.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._kept: dict[str, Kept] = {}
        self._flights: dict[str, asyncio.Task[Page | None]] = {}
        self._listening = False
        self._time = asyncio.get_running_loop().time

    def get(self, where: Where) -> Kept | None:
        """What is kept of the board."""
        kept = self._kept.get(keyspace.tag(*where))
        if kept is None or self._time() >= kept.until:
            return None
        return kept

    async def load(self, where: Where, read: Callable[[], Awaitable[Page | None]]) -> Page | None:
        """The answer of `read`, asked once for all who call meanwhile; kept unless it is None."""
        tag = keyspace.tag(*where)
        flight = self._flights.get(tag)
        if flight is None:
            flight = asyncio.create_task(self._fly(where, read))
            self._flights[tag] = flight
        # Who gives up waiting must not end it for the others.
        return await asyncio.shield(flight)

    async def follow(self) -> None:
        """Drops what has changed, for ever."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                log.warning("invalidations_not_heard", error=repr(error))
            finally:
                self._listening = False
                self._drop_all()
            await asyncio.sleep(0.5)

    async def _fly(self, where: Where, read: Callable[[], Awaitable[Page | None]]) -> Page | None:
        tag, flight = keyspace.tag(*where), asyncio.current_task()
        try:
            page = await read()
            # Not what a message has overtaken: another flight may be under way by then.
            if page is not None and self._listening and self._flights.get(tag) is flight:
                self._kept[tag] = Kept(where, page, self._time() + KEPT_S)
            return page
        finally:
            if self._flights.get(tag) is flight:
                del self._flights[tag]

    async def _listen(self) -> None:
        async with self._redis.pubsub() as messages:
            await messages.subscribe(keyspace.INVALIDATE)
            asked = False
            while True:
                message = await messages.get_message(timeout=SILENCE_S)
                if message is None:
                    if asked:
                        raise TimeoutError("the subscription does not answer")
                    await messages.ping()
                    asked = True
                    continue
                asked = False
                if message["type"] == "subscribe":
                    self._listening = True
                elif message["type"] == "message":
                    self._drop(message["data"].decode())

    def _drop(self, tag: str) -> None:
        if tag:
            self._kept.pop(tag, None)
            self._flights.pop(tag, None)
        else:
            self._drop_all()

    def _drop_all(self) -> None:
        self._kept.clear()
        self._flights.clear()
