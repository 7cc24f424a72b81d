"""An outbox: what waits in a store for a peer, told off every path until it is taken."""

import asyncio
from collections.abc import Awaitable, Callable

from chassis.errors import Failed
from chassis.telemetry import log


class Outbox:
    """Empties an outbox by `tell`, which tells one batch and answers how many it held.

    Replicas do so side by side: the peer knows what it is told twice. `tell` raises Failed.
    """

    def __init__(self, name: str, tell: Callable[[], Awaitable[int]]) -> None:
        """`name` is what log lines call it."""
        self._name = name
        self._tell = tell
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that something was put in."""
        self._woken.set()

    async def run(self, *, pause_s: float = 1.0, pause_max_s: float = 10.0) -> None:
        """Tells for ever: when woken, else every `pause_s`, growing while the peer is away."""
        wait_s = pause_s
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
            except TimeoutError:
                pass  # What a replica that died left, or the peer did not take, waits too.
            self._woken.clear()
            try:
                while await self._tell():
                    pass
                wait_s = pause_s
            except (Failed, TimeoutError) as error:
                wait_s = min(wait_s * 2, pause_max_s)
                log.warning(
                    "outbox_not_told", outbox=self._name, error=repr(error), retry_in_s=wait_s
                )
                await asyncio.sleep(wait_s)
                self._woken.set()
