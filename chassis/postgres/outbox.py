"""The relay of an outbox: what waits in a table for a peer, sent off every path."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from chassis.errors import Failed
from chassis.redis import UNAVAILABLE
from chassis.telemetry import log


class OutboxRelay:
    """Empties an outbox by `send`, which sends one batch and returns how much was taken.

    Replicas run side by side: the peer recognises what it gets twice. `send` may raise Failed,
    RedisError and OSError.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[], Awaitable[int]],
        *,
        pause_s: float = 1.0,
        pause_max_s: float = 10.0,
    ) -> None:
        """`name` stands in log lines. The pause grows while the peer is unavailable."""
        self._name = name
        self._send = send
        self._pause_s = pause_s
        self._pause_max_s = pause_max_s
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was put in."""
        self._woken.set()

    async def run(self) -> None:
        """Sends forever: when woken, else after each pause."""
        wait_s = self._pause_s
        while True:
            self._woken.clear()
            try:
                while await self._send():
                    pass
                wait_s = self._pause_s
            except (Failed, *UNAVAILABLE) as error:
                wait_s = min(wait_s * 2, self._pause_max_s)
                log.warning(
                    "outbox_not_sent", outbox=self._name, error=repr(error), retry_in_s=wait_s
                )
                await asyncio.sleep(wait_s)
                continue
            # Also when not woken: a crashed replica leaves rows, and the peer may not take some.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()
