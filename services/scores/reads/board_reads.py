"""Reads of boards: which store serves them.

Open periods are in Redis, closed ones in Postgres. While Redis is unavailable or has lost a
board, Postgres serves open periods too, and the answer is degraded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter

from chassis import clock
from chassis.errors import Failed, Unauthenticated
from chassis.postgres import DbUnavailable
from chassis.redis import UNAVAILABLE
from chassis.telemetry import log
from services.scores.boards.ranking import After, Found, Page, Place, WouldBe
from services.scores.boards.registry import BoardNotFound, PeriodNotFound, Registry
from services.scores.boards.rules import Known, Period, start_of
from services.scores.periods.final_tables import FinalTables
from services.scores.reads.cache import Cache, Cached
from services.scores.reads.degraded import BoardsUnavailable, DegradedReads, PeriodClosed
from services.scores.reads.live import TOP_MAX, LiveReads

T = TypeVar("T")
Query = TypeVar("Query", bound=tuple[Period, *tuple[Any, ...]])

tops = Counter("scoreboard_tops_total", "Reads of first entries, by the store that served", ["by"])
from_memory, from_redis, from_postgres = map(tops.labels, ("memory", "redis", "postgres"))

UNAVAILABLE_S = 0.25  # how long Redis is not tried after it failed
AHEAD_MS = 60_000  # a version further ahead of the clock was never shown


class BoardReads:
    """Reads of every board and period. Methods raise BoardsUnavailable when no store can serve."""

    def __init__(
        self,
        registry: Registry,
        live: LiveReads,
        final: FinalTables,
        degraded: DegradedReads,
        cache: Cache,
    ) -> None:
        self._registry = registry
        self._live = live
        self._final = final
        self._degraded = degraded
        self._cache = cache
        self._unavailable_until_s = 0.0

    def known(self, board: str, *, anonymous: bool) -> Known:
        """The board, for a caller with an access token or without (`anonymous`).

        Raises BoardNotFound, or Unauthenticated for a board that is not public.
        """
        known = self._registry.get(board)
        if anonymous and not known.board.public:
            raise Unauthenticated("This board is shown to players only.")
        return known

    async def period(self, board: str, period: str, *, anonymous: bool) -> Period:
        """The period of the board, also of one that another replica listed a moment ago.

        Raises as `known` does, or PeriodNotFound.
        """
        try:
            known = self.known(board, anonymous=anonymous)
        except BoardNotFound:
            await self._registry.catch_up()
            known = self.known(board, anonymous=anonymous)
        try:
            return self._registry.period(known, period)
        except PeriodNotFound:
            return await self._long_closed(known, period)

    async def starting(self, known: Known, start_ms: int) -> Period:
        """The board's period that begins then. Raises PeriodNotFound."""
        if period := known.starting(start_ms):
            return period
        return await _available(self._final.starting(known.board, start_ms))

    def cached(self, board: str, *, anonymous: bool, version_min: int) -> Cached | None:
        """The first entries of the present period, where this process has them cached.

        Raises Unauthenticated for a board that is not public.
        """
        try:
            known = self.known(board, anonymous=anonymous)
        except BoardNotFound:
            return None
        period = known.at(clock.now_ms())
        cached = self._cache.get(period) if period else None
        if cached is None or cached.page.version < version_min or self._live.behind:
            return None
        from_memory.inc()
        return cached

    async def top(self, period: Period, limit: int, *, version_min: int = 0, fresh: bool) -> Page:
        """The first entries, nothing older than `version_min`; at most 100, maybe beyond `limit`.

        `fresh`: past the caches of this process and of Redis.
        """
        if period.closed:
            return await self.page(period, limit, None)
        page = await self._from_redis([period], lambda: self._top(period, limit, fresh=fresh))
        if page is not None and page.version < version_min and not fresh:
            page = await self._from_redis([period], lambda: self._top(period, limit, fresh=True))
        if page is not None and page.version < version_min <= clock.now_ms() + AHEAD_MS:
            page = await self._caught_up(period, limit, version_min)
        if page is None:
            self._degraded.drop_older(period, version_min)
            page = await self._page_from_postgres(period, limit, None)
        return page

    async def page(self, period: Period, limit: int, after: After | None) -> Page:
        """The entries strictly behind `after`, by the board as it is now."""
        if period.closed:
            return await self._from_postgres(period, lambda store: store.page(period, limit, after))
        if after is None:
            return await self.top(period, limit, fresh=True)
        page = await self._from_redis([period], lambda: self._live.page(period, limit, after))
        return page or await self._page_from_postgres(period, limit, after)

    async def around(self, queries: Sequence[tuple[Period, str, int]]) -> list[Place | Failed]:
        """The places of players (period, user id, radius); or NotRanked.

        One that fails never fails its neighbours.
        """
        return await self._each(queries, self._live.around, lambda store, one: store.around(*one))

    async def ranks(self, period: Period, users: Sequence[str]) -> Found:
        """The rows of those players who are on the board."""
        if not period.closed:
            found = await self._from_redis([period], lambda: self._live.ranks(period, users))
            if found is not None:
                return found
        return await self._from_postgres(period, lambda store: store.ranks(period, users))

    async def would_be(self, queries: Sequence[tuple[Period, int]]) -> list[WouldBe | Failed]:
        """The ranks that scores (period, score) would have.

        One that fails never fails its neighbours.
        """
        return await self._each(
            queries, self._live.would_be, lambda store, one: store.would_be(*one)
        )

    async def warm(self) -> None:
        """Reads the first entries of every board, so that they are cached."""
        for known in self._registry.listed():
            if period := known.at(clock.now_ms()):
                await self.top(period, TOP_MAX, fresh=False)

    async def _top(self, period: Period, limit: int, *, fresh: bool) -> Page | None:
        if not fresh and (cached := self._cache.get(period)):
            from_memory.inc()
            return cached.page
        from_redis.inc()
        if fresh:
            return await self._live.top(period, limit, fresh=True)
        return await self._cache.load(period, lambda: self._live.top(period, TOP_MAX, fresh=False))

    async def _caught_up(self, period: Period, limit: int, version: int) -> Page | None:
        """The first entries from Redis, if all that was shown with `version` is there.

        A degraded answer has the moment as its version, which may be newer than the board's last
        change. None: Redis may lack changes.
        """
        moment_ms = min(version, clock.now_ms())
        if not await _available(self._degraded.published_since(moment_ms)):
            return None
        return await self._from_redis(
            [period], lambda: self._live.top(period, limit, fresh=True, version_min=version)
        )

    async def _each(
        self,
        queries: Sequence[Query],
        live: Callable[[Sequence[Query]], Awaitable[Sequence[T | Failed | None]]],
        stored: "Callable[[_Store, Query], Awaitable[T]]",
    ) -> list[T | Failed]:
        """Each one from Redis; for closed periods, and where Redis has none, from Postgres."""
        opened = [one for one in queries if not one[0].closed]
        found = await self._from_redis([one[0] for one in opened], lambda: live(opened))
        answers = iter(found or [None] * len(opened))
        results = [None if one[0].closed else next(answers) for one in queries]
        rest = [one for one, result in zip(queries, results, strict=True) if result is None]

        async def late(one: Query) -> T | Failed:
            return await or_failed(self._from_postgres(one[0], lambda store: stored(store, one)))

        others = iter(await asyncio.gather(*map(late, rest)))
        return [next(others) if result is None else result for result in results]

    async def _page_from_postgres(self, period: Period, limit: int, after: After | None) -> Page:
        from_postgres.inc()
        return await self._from_postgres(period, lambda store: store.page(period, limit, after))

    async def _from_postgres(self, period: Period, read: "Callable[[_Store], Awaitable[T]]") -> T:
        """From a snapshot of an open period, from the final table of a closed one."""
        if not period.closed:
            try:
                return await _available(read(self._degraded))
            except PeriodClosed:
                pass  # a moment ago
        return await _available(read(self._final))

    async def _long_closed(self, known: Known, name: str) -> Period:
        """A period that ended too long ago for the registry. Raises PeriodNotFound."""
        if name == "previous" and (current := known.at(clock.now_ms())):
            return await _available(self._final.before(known.board, current.start_ms))
        start_ms = start_of(name)
        period = None if start_ms is None else await self.starting(known, start_ms)
        if period is None or period.id != name:
            raise PeriodNotFound
        return period

    async def _from_redis(
        self, periods: Sequence[Period], read: Callable[[], Awaitable[T]]
    ) -> T | None:
        """What Redis returns; None while it is unavailable, refuses writes, or lacks what was
        shown already."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._unavailable_until_s or self._live.behind:
            return None
        if await self._degraded.ahead_of_redis(periods):
            return None
        try:
            answer = await read()
        except UNAVAILABLE as error:
            log.warning("boards_read_from_postgres", error=repr(error))
            self._unavailable_until_s = now_s + UNAVAILABLE_S
            return None
        # A board that is not complete has shown nothing.
        answers = answer if isinstance(answer, list) else [answer] * len(periods)
        self._degraded.overtaken(
            period for period, one in zip(periods, answers, strict=True) if one is not None
        )
        return answer


_Store = DegradedReads | FinalTables


async def or_failed(read: Awaitable[T]) -> T | Failed:
    """What `read` returns, or how it failed."""
    try:
        return await read
    except Failed as failed:
        return failed


async def _available(read: Awaitable[T]) -> T:
    try:
        return await read
    except DbUnavailable:
        raise BoardsUnavailable from None
