"""How late the event loop is: what every timer and every answer of the process waits for."""

import asyncio
from contextlib import AbstractAsyncContextManager
from time import perf_counter

from prometheus_client import Histogram

from chassis import telemetry
from chassis.process import background

PAUSE_S = 0.25  # between two measurements

_lag_s = Histogram(
    "event_loop_lag_seconds", "How late a timer of the process ran", buckets=telemetry.BUCKETS_S
)


def measured() -> AbstractAsyncContextManager[None]:
    """Measures within the context, four times a second."""
    return background(_measure())


async def _measure() -> None:
    while True:
        began_s = perf_counter()
        await asyncio.sleep(PAUSE_S)
        _lag_s.observe(max(0.0, perf_counter() - began_s - PAUSE_S))
