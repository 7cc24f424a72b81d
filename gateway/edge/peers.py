"""How many gateway processes there are: each one keeps a heartbeat in Redis.

The last count is kept while Redis is unavailable. It is what a limit is divided by then.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from chassis import clock
from chassis.process import background
from chassis.redis import UNAVAILABLE, Redis, Script
from chassis.telemetry import log

KEY = "{l:gateways}"  # beside the limits' keys, which share its prefix
CALL_S = 1.0  # A Redis that is slower counts as unavailable.


class Peers:
    """This process's heartbeat, every `heartbeat_s`, and the number of those in time.

    One that missed `missed_max` heartbeats counts no more.
    """

    def __init__(self, redis: Redis, *, heartbeat_s: float = 5.0, missed_max: int = 3) -> None:
        self.count = 1  # this process among them; 1 until Redis was first reached
        self._script = Script.read(redis, __package__, "peers.lua")
        self._id = secrets.token_hex(16)
        self._heartbeat_s = heartbeat_s
        self._silent_ms = round(missed_max * heartbeat_s * 1000)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Counted within the context, from its start; at its end the heartbeat is removed."""
        await self.beat()
        try:
            async with background(self._beat_forever()):
                yield
        finally:
            with suppress(*UNAVAILABLE):
                await self._update(silent_ms=0)

    async def beat(self) -> None:
        """Renews the heartbeat and counts; while Redis is unavailable the count stays."""
        try:
            self.count = await self._update(silent_ms=self._silent_ms)
        except UNAVAILABLE as error:
            log.warning("gateways_not_counted", count=self.count, error=repr(error))

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await self.beat()

    async def _update(self, *, silent_ms: int) -> int:
        async with asyncio.timeout(CALL_S):
            return int(await self._script([KEY], [clock.offset_ms(), self._id, silent_ms]))
