"""The boards that this process knows, with their periods: a copy of what Postgres has."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from chassis import clock
from chassis.errors import Missing
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from services.scores.boards.rules import FOR_EVER, Board, Period, moment
from services.scores.boards.store import Standings

# Periods are made that many ahead of the present one.
AHEAD = 2


class BoardNotFound(Missing):
    """There is no such board."""


class PeriodNotFound(Missing):
    """The board has no such period, or keeps it no longer."""


@dataclass(frozen=True)
class Known:
    """A board and its periods, oldest first: those that are open, and the newest closed ones."""

    board: Board
    periods: tuple[Period, ...]
    listed: bool = True

    def at(self, at_ms: int) -> Period | None:
        """The period that the moment belongs to."""
        return next((p for p in reversed(self.periods) if p.holds(at_ms)), None)

    def starting(self, start_ms: int) -> Period | None:
        """The period that begins then."""
        return next((p for p in reversed(self.periods) if p.start_ms == start_ms), None)

    def open(self) -> list[Period]:
        """The periods that began and are not closed."""
        now_ms = clock.now_ms()
        return [p for p in self.periods if not p.closed and p.start_ms <= now_ms]


class Registry:
    """Follows Postgres within a second. What it knows outlasts an absence of Postgres."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings
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

    def find(self, name: str, start_ms: int) -> tuple[Known, Period] | None:
        """A board, shown or not, and its period that begins then."""
        known = self._known.get(name)
        period = known.starting(start_ms) if known else None
        return (known, period) if known and period else None

    def period(self, known: Known, name: str) -> Period:
        """The period `current` (or empty), `previous`, or of that id. Raises PeriodNotFound."""
        current = known.at(clock.now_ms())
        if name in ("", "current") and current:
            return current
        for before, period in zip(known.periods, known.periods[1:], strict=False):
            if name == "previous" and period == current:
                return before
        for period in known.periods:
            if period.id == name:
                return period
        raise PeriodNotFound

    async def refresh(self) -> None:
        """Makes the periods ahead that are missing, and takes over what has changed."""
        found = await self._standings.boards()
        made = False
        for board, _, periods in found:
            missing = set(_ahead(board)) - {Period(p.start_ms, p.end_ms) for p in periods}
            if missing:
                await self._standings.add_periods(board.name, sorted(missing, key=_start_ms))
                made = True
        if made:
            found = await self._standings.boards()
        self._known = {b.name: Known(b, tuple(periods), listed) for b, listed, periods in found}

    async def follow(self, *, pause_s: float = 1.0) -> None:
        """Refreshes for ever."""
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.refresh()
            except DbUnavailable as error:
                log.warning("boards_refresh_failed", error=repr(error))


def _ahead(board: Board) -> Iterable[Period]:
    period = board.period(clock.now())
    yield period
    for _ in range(AHEAD):
        if period == FOR_EVER or period.end_ms is None:
            return
        period = board.period(moment(period.end_ms))
        yield period


def _start_ms(period: Period) -> int:
    return period.start_ms
