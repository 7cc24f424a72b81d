"""The boards that this process knows, with their periods: a copy of what Postgres has."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from chassis import clock
from chassis.batching import Batcher
from chassis.errors import Failed, Missing
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from services.scores.boards.rules import Board, Known, Period, moment
from services.scores.boards.store import BoardStore

AHEAD = 2  # periods made before they begin
REFRESH_S = 1.0
PAUSE_S = 0.05  # from one refresh that readers wait for to the next
WAIT_S = 0.5  # of a reader for a refresh, while Postgres does not answer
WAITING_MAX = 65_536


class BoardNotFound(Missing):
    """There is no such board."""


class PeriodNotFound(Missing):
    """The board has no such period, or keeps it no longer."""


class Registry:
    """Follows Postgres within a second, at once for who calls `catch_up`, and keeps its copy while
    Postgres is unavailable."""

    def __init__(self, store: BoardStore) -> None:
        self._store = store
        self._known: dict[str, Known] = {}
        self._refreshing = asyncio.Lock()
        self._refreshed_s = -PAUSE_S  # of the event loop's clock
        self._catching_up: Batcher[None, None] = Batcher(
            self._refresh_for, batch_max=WAITING_MAX, queue_max=WAITING_MAX, name="boards"
        )

    def listed(self) -> list[Known]:
        """The boards that are shown, the built-in ones first."""
        return [known for known in self._known.values() if known.listed]

    def all(self) -> list[Known]:
        """Every board, also those that are still being filled."""
        return list(self._known.values())

    def added(self) -> bool:
        """Whether there are boards beside the built-in ones."""
        return any(not known.board.built_in for known in self._known.values())

    def get(self, name: str) -> Known:
        """The board that is shown by that name. Raises BoardNotFound."""
        known = self._known.get(name)
        if known is None or not known.listed:
            raise BoardNotFound
        return known

    def find(self, name: str, start_ms: int) -> Period | None:
        """The period that begins then, of a board that is shown or not."""
        known = self._known.get(name)
        return known.starting(start_ms) if known else None

    def period(self, known: Known, name: str) -> Period:
        """The period `current` (or empty), `previous`, or of that id. Raises PeriodNotFound."""
        current = known.at(clock.now_ms())
        if name in ("", "current") and current:
            return current
        for before, period in pairwise(known.periods):
            if name == "previous" and period == current:
                return before
        for period in known.periods:
            if period.id == name:
                return period
        raise PeriodNotFound

    async def catch_up(self) -> None:
        """Takes over what was changed before this call, unless Postgres is unavailable.

        One refresh serves all who wait, and there are at most 20 a second.
        """
        with suppress(Failed):
            await self._catching_up.submit(None, timeout_s=WAIT_S)

    async def refresh(self) -> None:
        """Makes the periods ahead that are missing, and takes over what has changed.

        Raises DbUnavailable.
        """
        # One after the other, so that an older copy never replaces a newer one.
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        found = await self._store.boards()
        missing = [
            period
            for known in found
            for period in _ahead(known.board)
            if known.starting(period.start_ms) is None
        ]
        if missing:
            await self._store.add_periods(missing)
            found = await self._store.boards()
        self._known = {known.board.name: known for known in found}

    async def follow(self) -> None:
        """Refreshes forever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except DbUnavailable as error:
                log.warning("boards_refresh_failed", error=repr(error))

    async def _refresh_for(self, waiting: Sequence[None], timeout_s: float) -> Sequence[None]:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._refreshed_s + PAUSE_S - loop.time())
        self._refreshed_s = loop.time()
        try:
            await self.refresh()
        except DbUnavailable as error:
            log.warning("boards_refresh_failed", error=repr(error))
        return waiting


def _ahead(board: Board) -> list[Period]:
    periods = [board.period(clock.now())]
    while len(periods) <= AHEAD and (end_ms := periods[-1].end_ms):
        periods.append(board.period(moment(end_ms)))
    return periods
