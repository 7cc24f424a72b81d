"""Reads of boards: what may be asked, and which store answers.

Open periods are in Redis, closed ones in Postgres. Where Redis cannot tell of an open period,
because it is away or has lost the board, Postgres does, and the answer is degraded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import Counter
from redis.exceptions import RedisError

from chassis import clock
from chassis.errors import Failed, Missing, Unauthenticated
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from services.scores.boards.ranking import After, Found, Page, Place, WouldBe
from services.scores.boards.registry import Known, PeriodNotFound, Registry
from services.scores.boards.rules import Period, start_of
from services.scores.periods.final_tables import ClosedReads
from services.scores.reads.cache import Cache, Kept
from services.scores.reads.degraded import BoardsUnavailable, Fallback, Table
from services.scores.reads.live import TOP_MAX, Live, Where

T = TypeVar("T")
Asked = TypeVar("Asked", bound=tuple[Where, *tuple[Any, ...]])

tops = Counter("scoreboard_tops_total", "Reads of first entries, by what answered", ["by"])
from_memory, from_redis, from_postgres = map(tops.labels, ("memory", "redis", "postgres"))

AWAY_S = 0.25  # how long Redis is not asked after it was away
AHEAD_MS = 60_000  # a version further ahead of the clock was never shown


class NotRanked(Missing):
    """This player is not on the board."""


class Reads:
    """Reads of every board and period. Methods raise BoardsUnavailable when no store can tell."""

    def __init__(
        self,
        registry: Registry,
        live: Live,
        closed: ClosedReads,
        fallback: Fallback,
        cache: Cache,
    ) -> None:
        self._registry = registry
        self._live = live
        self._closed = closed
        self._fallback = fallback
        self._cache = cache
        self._away_until = 0.0
        self._told: dict[tuple[str, int], int] = {}  # the versions of degraded answers

    def known(self, board: str, *, anonymous: bool) -> Known:
        """The board, for one who has no access token or who has.

        Raises BoardNotFound, or Unauthenticated for a board that is not public.
        """
        known = self._registry.get(board)
        if anonymous and not known.board.public:
            raise Unauthenticated("This board is shown to players only.")
        return known

    async def where(self, board: str, period: str, *, anonymous: bool) -> Where:
        """The board and its period. Raises as `known` does, or PeriodNotFound."""
        known = self.known(board, anonymous=anonymous)
        try:
            return known.board, self._registry.period(known, period)
        except PeriodNotFound:
            return known.board, await self._long_closed(known, period)

    async def starting(self, known: Known, start_ms: int) -> Where:
        """The board and its period that begins then. Raises PeriodNotFound."""
        period = known.starting(start_ms)
        if period is None:
            closed = await _from_postgres(self._closed.starting(known.board, start_ms))
            if closed is None:
                raise PeriodNotFound
            period = closed.period
        return known.board, period

    def kept(self, board: str, *, anonymous: bool, version_min: int) -> Kept | None:
        """The first entries of the present period, where this process remembers them.

        Raises as `known` does.
        """
        known = self.known(board, anonymous=anonymous)
        period = known.at(clock.now_ms())
        kept = self._cache.get((known.board, period)) if period else None
        if kept is None or kept.page.version < version_min:
            return None
        from_memory.inc()
        return kept

    async def top(self, where: Where, limit: int, *, version_min: int = 0, fresh: bool) -> Page:
        """The first entries, nothing older than `version_min`; at most 100, maybe more than asked.

        `fresh`: past what this process, or Redis, remembers.
        """
        if where[1].closed:
            return await self.page(where, limit, None)
        page = await self._from_redis([where], lambda: self._top(where, limit, fresh=fresh))
        if page is not None and page.version < version_min and not fresh:
            page = await self._from_redis([where], lambda: self._top(where, limit, fresh=True))
        if page is not None and page.version < version_min <= clock.now_ms() + AHEAD_MS:
            page = await self._caught_up(where, limit, version_min)
        if page is None:
            return await self._page_of_table(where, limit, None, version_min=version_min)
        return page

    async def page(self, where: Where, limit: int, after: After | None) -> Page:
        """The entries strictly behind `after`, whoever is there by now."""
        if where[1].closed:
            return await _from_postgres(self._closed.page(where, limit, after))
        if after is None:
            return await self.top(where, limit, fresh=True)
        page = await self._from_redis([where], lambda: self._live.page(where, limit, after))
        return page or await self._page_of_table(where, limit, after)

    async def around(self, asked: Sequence[tuple[Where, str, int]]) -> list[Place | Failed]:
        """The places of players (board and period, user id, radius); or NotRanked.

        One that fails never fails its neighbours.
        """
        found = await self._each(asked, self._live.around, self._around_in_postgres)
        return [one if isinstance(one, Failed) else one[0] or NotRanked() for one in found]

    async def ranks(self, where: Where, users: Sequence[str]) -> Found:
        """The rows of those players who are on the board."""
        if where[1].closed:
            return await _from_postgres(self._closed.ranks(where, users))
        found = await self._from_redis([where], lambda: self._live.ranks(where, users))
        if found is not None:
            return found
        where, table = await self._table(where)
        if table is None:
            return await _from_postgres(self._closed.ranks(where, users))
        if await _from_postgres(self._fallback.beyond(where, table, users)):
            raise BoardsUnavailable(retry_after_s=1)
        return table.ranks(users)

    async def would_be(self, asked: Sequence[tuple[Where, int]]) -> list[WouldBe | Failed]:
        """The ranks that scores (board and period, score) would have.

        One that fails never fails its neighbours.
        """
        return await self._each(asked, self._live.would_be, self._would_be_in_postgres)

    async def warm(self) -> None:
        """Reads the first entries of every board, so that they are remembered."""
        for known in self._registry.listed():
            if period := known.at(clock.now_ms()):
                await self.top((known.board, period), TOP_MAX, fresh=False)

    async def _top(self, where: Where, limit: int, *, fresh: bool) -> Page | None:
        if not fresh and (kept := self._cache.get(where)):
            from_memory.inc()
            return kept.page
        from_redis.inc()
        if fresh:
            return await self._live.top(where, limit, fresh=True)
        return await self._cache.load(where, lambda: self._live.top(where, TOP_MAX, fresh=False))

    async def _caught_up(self, where: Where, limit: int, version: int) -> Page | None:
        """The first entries from Redis, if it has all that was told with `version`.

        A degraded answer has the moment as its version, which may be newer than the board's last
        change. None: there may be changes that Redis has not heard of.
        """
        if not await _from_postgres(self._fallback.told_since(min(version, clock.now_ms()))):
            return None
        return await self._from_redis(
            [where], lambda: self._live.top(where, limit, fresh=True, version_min=version)
        )

    async def _each(
        self,
        asked: Sequence[Asked],
        live: Callable[[Sequence[Asked]], Awaitable[list[T | None]]],
        in_postgres: Callable[[Asked], Awaitable[T]],
    ) -> list[T | Failed]:
        """What Redis answers to each; for closed periods, and where it cannot, Postgres does."""
        opened = [one for one in asked if not one[0][1].closed]
        told = await self._from_redis([one[0] for one in opened], lambda: live(opened))
        answers = iter(told or [None] * len(opened))
        found = [None if one[0][1].closed else next(answers) for one in asked]
        rest = [one for one, answer in zip(asked, found, strict=True) if answer is None]
        others = iter(await asyncio.gather(*(_or_failed(in_postgres(one)) for one in rest)))
        return [next(others) if answer is None else answer for answer in found]

    async def _around_in_postgres(self, asked: tuple[Where, str, int]) -> tuple[Place | None]:
        where, user, radius = asked
        where, table = await self._last_table(where)
        if table is None:
            return (await _from_postgres(self._closed.around(where, user, radius)),)
        place = table.around(user, radius)
        if place is None and await _from_postgres(self._fallback.beyond(where, table, [user])):
            raise BoardsUnavailable(retry_after_s=1)
        return (place,)

    async def _would_be_in_postgres(self, asked: tuple[Where, int]) -> WouldBe:
        where, score = asked
        where, table = await self._last_table(where)
        if table is None:
            return await _from_postgres(self._closed.would_be(where, score))
        return table.would_be(score)

    async def _page_of_table(
        self, where: Where, limit: int, after: After | None, *, version_min: int = 0
    ) -> Page:
        from_postgres.inc()
        where, table = await self._table(where, version_min=version_min)
        if table is None:
            return await _from_postgres(self._closed.page(where, limit, after))
        return table.page(limit, after)

    async def _last_table(self, where: Where) -> tuple[Where, Table | None]:
        """The table of a period; None: it is closed."""
        return (where, None) if where[1].closed else await self._table(where)

    async def _table(self, where: Where, *, version_min: int = 0) -> tuple[Where, Table | None]:
        """The table of an open period; None: it has just been closed."""
        table = await _from_postgres(self._fallback.table(where, version_min=version_min))
        board, period = where
        if table is not None:
            self._told[board.name, period.start_ms] = table.version
            return where, table
        return (board, Period(period.start_ms, period.end_ms, closed=True)), None

    async def _long_closed(self, known: Known, name: str) -> Period:
        """A period that ended too long ago for the registry. Raises PeriodNotFound."""
        read, start_ms = self._closed.starting, start_of(name)
        if name == "previous" and (current := known.at(clock.now_ms())):
            read, start_ms = self._closed.before, current.start_ms
        found = None if start_ms is None else await _from_postgres(read(known.board, start_ms))
        if found is None or name not in ("previous", found.period.id):
            raise PeriodNotFound
        return found.period

    async def _from_redis(
        self, wheres: Sequence[Where], read: Callable[[], Awaitable[T]]
    ) -> T | None:
        """What Redis answers; None while it is away, or behind of what was told of those boards."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until or (self._told and await self._behind(wheres)):
            return None
        try:
            answer = await read()
        except (RedisError, OSError) as error:
            log.warning("boards_read_from_postgres", error=repr(error))
            self._away_until = now + AWAY_S
            return None
        # A board that is not complete has told nothing.
        answers = answer if isinstance(answer, list) else [answer] * len(wheres)
        self._fallback.overtaken(
            where for where, one in zip(wheres, answers, strict=True) if one is not None
        )
        return answer

    async def _behind(self, wheres: Sequence[Where]) -> bool:
        """Whether degraded answers may have told what Redis has not heard of yet.

        It may have been unreachable, and kept its data: then the relay has to catch up first.
        """
        for board, period in wheres:
            told_ms = self._told.get((board.name, period.start_ms), 0)
            try:
                if told_ms and not await self._fallback.told_since(told_ms):
                    return True
            except DbUnavailable:
                return False  # Redis is all there is
            self._told.pop((board.name, period.start_ms), None)
        return False


async def _or_failed(read: Awaitable[T]) -> T | Failed:
    try:
        return await read
    except Failed as failed:
        return failed


async def _from_postgres(read: Awaitable[T]) -> T:
    try:
        return await read
    except DbUnavailable:
        raise BoardsUnavailable(retry_after_s=1) from None
