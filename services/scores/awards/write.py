"""Writing awards, and what becomes of them while Postgres is away: retries, breaker, journal."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from prometheus_client import Gauge

from chassis.errors import Failed, Timeout
from chassis.postgres import DbUnavailable
from chassis.server import deadline
from chassis.telemetry import log
from services.scores.awards.answers import ScoreOutOfRange
from services.scores.awards.journal import Journal
from services.scores.awards.records import Claim, ScoreRange
from services.scores.awards.store import Ledger
from services.scores.boards.changes import Row

RETRIES_S = (0.1, 0.2, 0.4)
# For all tries of a batch: a Postgres that hangs is away as well. Verify and Judge have waited for
# theirs by then, so that much more than this is not left of a request's time.
WRITE_S = 2.0
TELLING_S = 1.0  # a shorter wait says nothing about Postgres
READ_S = 1.0
KEPT_BACK_S = 0.3  # of a request's time, for the journal
PROBE_S = 0.5

Answer = TypeVar("Answer")
_dice = random.SystemRandom()

ledger_away = Gauge("scoreboard_ledger_away", "1 while awards go to the journal, not the ledger")


class Breaker:
    """Open from a batch that Postgres did not take until Postgres answers a probe."""

    def __init__(self, ping: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._ping = ping
        self._tripped = asyncio.Event()

    @property
    def open(self) -> bool:
        """Whether nobody but the probe may try Postgres."""
        return self._tripped.is_set()

    def trip(self) -> None:
        """Opens it."""
        ledger_away.set(1)
        self._tripped.set()

    async def follow(self) -> None:
        """While it is open asks Postgres every half second; for ever."""
        while True:
            await self._tripped.wait()
            await asyncio.sleep(PROBE_S)
            try:
                await _within(self._ping(), PROBE_S)
            except (DbUnavailable, TimeoutError):
                continue
            self._tripped.clear()
            ledger_away.set(0)
            log.info("ledger_back")


class Writer:
    """The ledger as the award's path uses it: what Postgres does not take goes to the journal."""

    def __init__(self, ledger: Ledger, journal: Journal, breaker: Breaker) -> None:
        self._ledger = ledger
        self._journal = journal
        self._breaker = breaker

    async def write(self, claims: Sequence[Claim], *, received_at_ms: int) -> list[Row | Failed]:
        """The row of each award, or why there is none: QueuedForReplay while Postgres is away.

        Raises Timeout when the request's time is over first.
        """
        if not self._breaker.open:
            try:
                return [
                    ScoreOutOfRange() if isinstance(row, ScoreRange) else row
                    for row in await self._try(claims)
                ]
            except DbUnavailable as error:
                log.error("ledger_away", error=repr(error.__cause__), awards=len(claims))
        queued: Sequence[Failed] = await self._journal.queue(claims, received_at_ms=received_at_ms)
        return list(queued)

    async def rows(self, action_ids: Sequence[str]) -> dict[str, Row]:
        """The ledger rows of those actions, by id. Raises DbUnavailable, at once where known."""
        if self._breaker.open:
            raise DbUnavailable
        try:
            return await _within(self._ledger.rows(action_ids), READ_S)
        except TimeoutError as error:
            raise DbUnavailable from error

    async def _try(self, claims: Sequence[Claim]) -> list[Row | ScoreRange]:
        """Raises DbUnavailable after the last try, Timeout when the request has no time left."""
        loop = asyncio.get_running_loop()
        due = deadline.get()
        patience_s = WRITE_S
        if due is not None:
            patience_s = min(WRITE_S, due - KEPT_BACK_S - loop.time())
        until = loop.time() + patience_s
        for retry_s in (*RETRIES_S, None):
            try:
                return await _within(self._ledger.award(claims), until - loop.time())
            except TimeoutError as error:
                if patience_s < TELLING_S:
                    raise Timeout from error
                self._breaker.trip()
                raise DbUnavailable from error
            except DbUnavailable:
                if retry_s is None:
                    self._breaker.trip()
                    raise
                pause_s = retry_s * _dice.uniform(0.75, 1.25)
                if self._breaker.open or loop.time() + pause_s > until:
                    raise
                await asyncio.sleep(pause_s)
        raise DbUnavailable


async def _within(work: Coroutine[Any, Any, Answer], timeout_s: float) -> Answer:
    """Raises TimeoutError in time even when the cancelled work takes its time to end.

    A statement on a server that hangs does: its connection waits for the cancellation.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=max(0.0, timeout_s))
    finally:
        if not task.done():
            task.cancel()
            _cancelled.add(task)
            task.add_done_callback(_forget)
    if not task.done():
        raise TimeoutError
    return task.result()


_cancelled: set[asyncio.Task[Any]] = set()


def _forget(task: asyncio.Task[Any]) -> None:
    _cancelled.discard(task)
    if not task.cancelled():
        task.exception()  # so that nobody complains that it was not looked at
