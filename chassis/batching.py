"""Batching: send at once when idle, else gather until the flight returns.

An idle batcher sends an item in the same turn of the event loop, so nothing waits
for company. While a batch is in flight new items gather, and leave together when
it returns: batches grow by themselves under load. One flight at a time measured
better than several (fewer, larger batches for the same work). The first of several
batchers in a row may linger under load: whom it sends off together stay together.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence, Sized
from contextvars import Context
from copy import copy
from typing import Any, Generic, TypeVar

import msgspec
from opentelemetry.trace import SpanKind

from chassis import telemetry
from chassis.errors import Failed, Internal, Invalid, Timeout, Unavailable
from chassis.telemetry import traces
from chassis.telemetry.traces import Described

BATCH_MAX = 256  # items in one call; beyond it only the wait grows
BUSY_PER_S = 200.0  # items; below it there is no company worth waiting for
_RATE_S = 0.25  # over which the rate is taken

Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchTooLarge(Invalid):
    """A call holds more items than a batch may."""


class QueueFull(Unavailable):
    """Too much is waiting already; try again shortly."""


def bounded(items: Sized, *, most: int = BATCH_MAX) -> None:
    """Raises BatchTooLarge for more than `most` items: every batched call's first check."""
    if len(items) > most:
        raise BatchTooLarge


class _Waiting(msgspec.Struct, Generic[Item, Result]):
    item: Item
    deadline: float  # of the event loop's clock
    future: asyncio.Future[Result]
    span: Any = None  # until the result, where the item's request is sampled


class Batcher(Generic[Item, Result]):
    """Gathers single items into calls of `send`; belongs to the event loop it is made in.

    `send(items, timeout_s)` returns one result per item, in order; a result that
    is a `Failed` fails its own item only. `timeout_s` is the time the most patient
    of the items has left. If `send` itself fails, all items of that flight do. Under
    `name` the metrics count how many items fly together and how many wait. While more than
    `BUSY_PER_S` items come, a flight waits `linger_s` for company. An item's span belongs to its
    own request, the flight's is linked with those of its sampled items.
    """

    def __init__(
        self,
        send: Callable[[list[Item], float], Awaitable[Sequence[Result | Failed]]],
        *,
        name: str,
        batch_max: int = BATCH_MAX,
        queue_max: int = 4096,
        linger_s: float = 0.0,
    ) -> None:
        self._send = send
        # Asking which loop runs is a system call, which at one a request can be felt.
        self._loop = asyncio.get_running_loop()
        self._linger_s = linger_s
        self._per_s, self._items, self._counted_from = 0.0, 0, 0.0  # of the items of late
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._flying: list[_Waiting[Item, Result]] = []
        self._flights: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._name = name
        self._sizes = telemetry.batch_items.labels(name)
        telemetry.queue_items.labels(name).set_function(self._queue.__len__)

    async def submit(self, item: Item, *, timeout_s: float) -> Result:
        """The result for `item`.

        Raises QueueFull at once when `queue_max` items wait, Timeout when `timeout_s`
        passed first, the item's own failure, or what `send` raised.
        """
        if len(self._queue) >= self._queue_max:
            raise QueueFull
        loop = self._loop
        waiting: _Waiting[Item, Result] = _Waiting(
            item, loop.time() + timeout_s, loop.create_future()
        )
        self._queue.append(waiting)
        # One alarm for all, at the earliest deadline: almost no item lives to see its own.
        if self._alarm is None or waiting.deadline < self._alarm.when():
            self._set_alarm(waiting.deadline)
        if self._flights is None:
            # In a context of its own: flights go on after the request that began them, whose
            # deadline and trace are not those of what they carry next.
            self._flights = loop.create_task(self._fly(), context=Context())
        if not traces.sampled():
            return await waiting.future
        with traces.span(_item, self._name) as waiting.span:
            return await waiting.future

    async def drain(self) -> None:
        """Returns when nothing waits and nothing flies."""
        while self._flights is not None:
            await asyncio.wait([self._flights])

    async def _fly(self) -> None:
        try:
            while self._queue:
                if self._linger_s and self._busy():
                    await asyncio.sleep(self._linger_s)
                self._flying = self._take()
                self._items += len(self._flying)
                if self._flying:
                    await self._flight(self._flying)
        finally:
            self._flying = []
            self._flights = None

    def _busy(self) -> bool:
        now = self._loop.time()
        took_s = now - self._counted_from
        if took_s >= _RATE_S:
            self._per_s, self._items, self._counted_from = self._items / took_s, 0, now
        return self._per_s > BUSY_PER_S

    def _take(self) -> list[_Waiting[Item, Result]]:
        """The next batch, without the items whose callers left or ran out of time."""
        batch: list[_Waiting[Item, Result]] = []
        while self._queue and len(batch) < self._batch_max:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    async def _flight(self, batch: list[_Waiting[Item, Result]]) -> None:
        self._sizes.observe(len(batch))
        left_s = max(w.deadline for w in batch) - self._loop.time()
        try:
            with traces.joint([w.span for w in batch], _flight, self._name, len(batch)):
                results = await self._send([w.item for w in batch], left_s)
            if len(results) != len(batch):
                raise Internal(f"{len(batch)} items were sent, {len(results)} results came back")
        except Exception as error:
            failed = error if isinstance(error, Failed) else Internal(repr(error))
            # One exception object per item, since a traceback grows wherever it is raised.
            results = [copy(failed) for _ in batch]
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if isinstance(result, Failed):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        """Fails the items whose time is over, and waits for the next one's."""
        self._alarm = None
        waiting = [w for w in (*self._flying, *self._queue) if not w.future.done()]
        for late in (w for w in waiting if w.deadline <= self._loop.time()):
            late.future.set_exception(Timeout())
        left = [w.deadline for w in waiting if not w.future.done()]
        if left:
            self._set_alarm(min(left))


def _item(name: str) -> Described:
    return Described(f"batch {name}", SpanKind.INTERNAL, {"batch.name": name})


def _flight(name: str, items: int) -> Described:
    return Described(
        f"flight {name}", SpanKind.INTERNAL, {"batch.name": name, "batch.items": items}
    )
