"""The boards that this process knows, with their periods: a copy of what Postgres has."""

import asyncio
from itertools import pairwise

from chassis import clock
from chassis.errors import Missing
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from services.scores.boards.rules import Board, Known, Period, moment
from services.scores.boards.store import BoardStore

AHEAD = 2  # periods made before they begin
REFRESH_S = 1.0


class BoardNotFound(Missing):
    """There is no such board."""


class PeriodNotFound(Missing):
    """The board has no such period, or keeps it no longer."""


class Registry:
    """Follows Postgres within a second, and keeps its copy while Postgres is unavailable."""

    def __init__(self, store: BoardStore) -> None:
        self._store = store
        self._known: dict[str, Known] = {}

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

    async def refresh(self) -> None:
        """Makes the periods ahead that are missing, and takes over what has changed."""
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


def _ahead(board: Board) -> list[Period]:
    periods = [board.period(clock.now())]
    while len(periods) <= AHEAD and (end_ms := periods[-1].end_ms):
        periods.append(board.period(moment(end_ms)))
    return periods
