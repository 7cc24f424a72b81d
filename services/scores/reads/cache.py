"""The first entries of boards in this process's memory, for a second or until they change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chassis.redis import UNAVAILABLE, Redis
from chassis.telemetry import log
from services.scores.boards import keys
from services.scores.boards.ranking import Page
from services.scores.boards.rules import Period

KEPT_S = 1.0
SILENCE_S = 1.0  # after which the subscription is pinged


@dataclass(slots=True)
class Cached:
    """The first entries of a period, and what readers rendered of them, by keys of theirs."""

    period: Period
    page: Page
    until_s: float  # of the event loop's clock
    rendered: dict[Any, Any] = field(default_factory=dict)


class Cache:
    """Holds only what a message on `cache:invalidate` would drop: nothing without a subscription.

    What is not cached is loaded once for all who read it at that moment.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._cached: dict[str, Cached] = {}
        self._flights: dict[str, asyncio.Task[Page | None]] = {}
        self._listening = False
        self._time = asyncio.get_running_loop().time

    def get(self, period: Period) -> Cached | None:
        """What is cached of the period."""
        cached = self._cached.get(period.tag)
        if cached is None or self._time() >= cached.until_s:
            return None
        return cached

    async def load(self, period: Period, read: Callable[[], Awaitable[Page | None]]) -> Page | None:
        """What `read` returns, called once for all who call meanwhile; cached unless it is None."""
        flight = self._flights.get(period.tag)
        if flight is None:
            flight = asyncio.create_task(self._load(period, read))
            self._flights[period.tag] = flight
        # One reader that gives up must not end it for the others.
        return await asyncio.shield(flight)

    async def follow(self) -> None:
        """Drops what has changed, forever."""
        while True:
            try:
                await self._listen()
            except UNAVAILABLE as error:
                log.warning("invalidations_not_received", error=repr(error))
            finally:
                self._listening = False
                self._drop_all()
            await asyncio.sleep(0.5)

    async def _load(
        self, period: Period, read: Callable[[], Awaitable[Page | None]]
    ) -> Page | None:
        tag, flight = period.tag, asyncio.current_task()
        try:
            page = await read()
            # Not what a message has overtaken: another flight may be under way by then.
            if page is not None and self._listening and self._flights.get(tag) is flight:
                self._cached[tag] = Cached(period, page, self._time() + KEPT_S)
            return page
        finally:
            if self._flights.get(tag) is flight:
                del self._flights[tag]

    async def _listen(self) -> None:
        async with self._redis.pubsub() as messages:
            await messages.subscribe(keys.INVALIDATE)
            pinged = False
            while True:
                message = await messages.get_message(timeout=SILENCE_S)
                if message is None:
                    if pinged:
                        raise TimeoutError("the subscription does not answer")
                    await messages.ping()
                    pinged = True
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    self._listening = True
                elif message["type"] == "message":
                    self._drop(message["data"].decode())

    def _drop(self, tag: str) -> None:
        if tag:
            self._cached.pop(tag, None)
            self._flights.pop(tag, None)
        else:
            self._drop_all()

    def _drop_all(self) -> None:
        self._cached.clear()
        self._flights.clear()
