"""The closer: freezes, seals and publishes the final tables of periods that have ended."""

from prometheus_client import Counter, Gauge

from chassis.postgres import StatementUndone
from chassis.telemetry import log
from services.scores.boards.events import Events
from services.scores.periods.store import ClosingStore, Due

BARRIERS_MAX = 10  # of half a second each at most; then the next pass goes on
SWEEP_S = 3600.0  # what awards that crossed a closing left behind is soon there, or never

periods_closed = Counter("scoreboard_periods_closed_total", "Closed periods", ["board"])
overdue = Gauge("scoreboard_period_overdue_seconds", "Since the oldest end that is not closed")


class Closer:
    """Any number may work at once; a lease only spares them useless work."""

    def __init__(self, store: ClosingStore, events: Events) -> None:
        self._store = store
        self._events = events
        self._swept_all = False

    async def work(self, fence: int) -> None:
        """Closes what has ended, publishes it, deletes the standings of closed periods.

        Raises DbUnavailable and RedisError: the next pass goes on.
        """
        due = await self._store.due()
        overdue.set(max((d.overdue_s for d in due), default=0))
        if due:
            await self._barrier()
        for ended in due:
            await self._close(ended)
        for closed in await self._store.unpublished():
            await self._events.close(closed.board, closed.id, at_ms=closed.closed_at_ms)
            await self._store.mark_published(closed)
        await self._sweep()

    async def _barrier(self) -> None:
        for _ in range(BARRIERS_MAX - 1):
            try:
                return await self._store.barrier()
            except StatementUndone:
                log.info("closing_delayed")
        return await self._store.barrier()

    async def _close(self, ended: Due) -> None:
        closed = await self._store.close(ended)
        if closed is None:
            return
        periods_closed.labels(ended.board).inc()
        log.info(
            "period_closed",
            stream="audit",
            board=closed.board,
            period=closed.id,
            players=closed.players,
            hash=closed.hash.hex(),
            key_id=closed.key_id,
            overdue_s=round(ended.overdue_s, 1),
        )

    async def _sweep(self) -> None:
        since_s = SWEEP_S if self._swept_all else 1e9
        if not await self._store.sweep(since_s=since_s):
            self._swept_all = True
