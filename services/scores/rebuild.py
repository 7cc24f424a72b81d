"""Completes the boards in Redis from Postgres: at the start, and after Redis lost its data."""

from chassis import clock
from services.scores.boards import Boards
from services.scores.registry import Registry
from services.scores.rules import Board, Period
from services.scores.store.standings import Standings

PLAYERS_AT_ONCE = 500


class Rebuild:
    """Raises what the stores raise: the next pass begins again."""

    def __init__(self, boards: Boards, registry: Registry, standings: Standings) -> None:
        self._boards = boards
        self._registry = registry
        self._standings = standings

    async def work(self) -> None:
        """One pass over all boards: those that are not complete are made so."""
        missing: list[tuple[Board, Period]] = []
        for known in self._registry.all():
            for period in known.periods:
                if period.closed:
                    continue
                if period.start_ms > clock.now_ms():
                    await self._boards.prepare(known.board, period)
                elif not await self._boards.ready(known.board, period):
                    missing.append((known.board, period))
        if missing:
            await self._fill(missing)

    async def _fill(self, missing: list[tuple[Board, Period]]) -> None:
        tokens = [await self._boards.begin_rebuild(*where, wipe=True) for where in missing]
        after = None
        while users := await self._standings.users(after=after, limit=PLAYERS_AT_ONCE):
            await self._boards.place(await self._standings.of(users))
            after = users[-1]
        for (board, period), token in zip(missing, tokens, strict=True):
            await self._boards.set_ready(board, period, token)
