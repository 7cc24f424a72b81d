"""Write: awards into the ledger, with the one retry loop, and a breaker for a Postgres that is
unavailable."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from prometheus_client import Gauge

from chassis.errors import Failed, Timeout
from chassis.postgres import DbUnavailable
from chassis.rpc.server import deadline
from chassis.telemetry import log
from services.scores.awards.records import Judged, ScoreOutOfRange
from services.scores.awards.store import (
    BatchConflict,
    LedgerStore,
    PartitionMissing,
    PeriodMissing,
    PlayersMissing,
)
from services.scores.boards.changes import Row

TRIES_MAX = 4  # of a batch that something is missing for
RETRIES_S = (0.1, 0.2, 0.4)  # between tries of a Postgres that is unavailable
# For all tries of a batch: a Postgres that hangs is unavailable as well. Verify and Judge have
# waited for theirs by then, so that not much more is left of a request's time.
WRITE_S = 2.0
CONCLUSIVE_S = 1.0  # a shorter wait says nothing about Postgres
RESERVED_S = 0.3  # of a request's time, for the journal
PROBE_S = 0.5

T = TypeVar("T")
_random = random.SystemRandom()

ledger_unavailable = Gauge(
    "scoreboard_ledger_unavailable", "1 while awards go to the journal, not the ledger"
)


class Breaker:
    """Open from a batch that Postgres did not take until Postgres answers a probe."""

    def __init__(self, ping: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._ping = ping
        self._tripped = asyncio.Event()

    @property
    def open(self) -> bool:
        """Only the probe may try Postgres."""
        return self._tripped.is_set()

    def trip(self) -> None:
        """Opens it."""
        ledger_unavailable.set(1)
        self._tripped.set()

    async def follow(self) -> None:
        """While it is open probes Postgres every half second; runs forever."""
        while True:
            await self._tripped.wait()
            await asyncio.sleep(PROBE_S)
            try:
                await within(self._ping(), PROBE_S)
            except (DbUnavailable, TimeoutError):
                continue
            self._tripped.clear()
            ledger_unavailable.set(0)
            log.info("ledger_available")


def about(pause_s: float) -> float:
    """That long, a quarter more or less, so that processes do not try in step."""
    return pause_s * _random.uniform(0.75, 1.25)


async def _pause(pause_s: float) -> None:
    await asyncio.sleep(about(pause_s))


class LedgerWriter:
    """Writes batches of judged awards. `make_periods` makes the boards' present periods,
    `pause` waits about so many seconds between two tries."""

    def __init__(
        self,
        ledger: LedgerStore,
        breaker: Breaker,
        make_periods: Callable[[], Awaitable[None]],
        *,
        pause: Callable[[float], Awaitable[None]] = _pause,
    ) -> None:
        self._ledger = ledger
        self._breaker = breaker
        self._make_periods = make_periods
        self._pause = pause

    async def write(self, judged: Sequence[Judged]) -> list[Row | Failed]:
        """As `insert` does, with retries while Postgres is unavailable.

        Raises DbUnavailable after the last try or while the breaker is open, Timeout when the
        request's time ends before the tries prove anything.
        """
        if self._breaker.open:
            raise DbUnavailable
        now_s = asyncio.get_running_loop().time()
        due_s = deadline.get()
        patience_s = WRITE_S if due_s is None else min(WRITE_S, due_s - RESERVED_S - now_s)
        try:
            work = self.insert(judged, pauses_s=RETRIES_S, until_s=now_s + patience_s)
            return await within(work, patience_s)
        except TimeoutError as error:
            if patience_s < CONCLUSIVE_S:
                raise Timeout from error
            failure: Exception = error
        except DbUnavailable as error:
            failure = error
        self._breaker.trip()
        log.error("ledger_unavailable", error=repr(failure), awards=len(judged))
        raise DbUnavailable from failure

    async def insert(
        self, judged: Sequence[Judged], *, pauses_s: Iterable[float] = (), until_s: float = math.inf
    ) -> list[Row | Failed]:
        """The row of each award, Written where it is new, or ScoreOutOfRange.

        One award that cannot be written never fails its neighbours. Raises DbUnavailable once
        the pauses between its tries are used up, or end after `until_s` (of the loop's clock).
        """
        pauses = iter(pauses_s)
        tries = 0
        while True:
            try:
                return list(await self._ledger.insert(judged))
            except ScoreOutOfRange as failed:
                if len(judged) == 1:
                    return [failed]
                # One of them fails the statement for all, so each is tried alone.
                return [row for one in judged for row in await self.insert([one])]
            except (PlayersMissing, PeriodMissing, PartitionMissing, BatchConflict) as error:
                tries += 1
                if tries == TRIES_MAX:
                    raise
                await self._prepare(judged, error)
            except DbUnavailable:
                pause_s = next(pauses, math.inf)
                if self._breaker.open or asyncio.get_running_loop().time() + pause_s > until_s:
                    raise
                await self._pause(pause_s)

    async def _prepare(self, judged: Sequence[Judged], error: Exception) -> None:
        """Makes what the batch lacks; nothing for a conflict."""
        match error:
            case PlayersMissing():
                # In a transaction of its own: under the batch's locks, players could deadlock.
                await self._ledger.add_players(
                    [(j.user_id, j.username, j.name_version) for j in judged]
                )
            case PeriodMissing():
                await self._make_periods()
            case PartitionMissing():
                # The job that makes them ahead must have failed for months.
                log.error("partition_missing", error=str(error))
                await self._ledger.make_partitions()


async def within(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
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
        task.exception()  # retrieved, so that asyncio does not report it
