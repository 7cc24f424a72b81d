"""Leases in Redis: work that must not run twice is done by the holder of the lease.

Each new holder gets a higher fencing number, so that what an old holder still does
late is recognised.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence

from chassis import clock
from chassis.redis.client import UNAVAILABLE, Redis, Script
from chassis.telemetry import log


class Leases:
    """Any number of leases, each a hash of holder, fence and end (Unix ms)."""

    def __init__(self, redis: Redis) -> None:
        self._script = Script(redis, _LEASE, name="lease")

    async def hold(self, keys: Sequence[str], *, holder: str, ttl_ms: int) -> list[int]:
        """Takes or renews the leases for `ttl_ms` from now; 0 gives them back.

        Returns each one's fencing number, 0 where another one holds it. Raises RedisError.
        """
        arguments = (holder, ttl_ms, clock.offset_ms())
        return await self._script.many([([key], arguments) for key in keys])


class Lease:
    """One process's claim to the lease `key`, for `ttl_s` beyond each renewal."""

    def __init__(self, redis: Redis, key: str, *, ttl_s: float = 5.0) -> None:
        self._leases = Leases(redis)
        self._key = key
        self._me = secrets.token_hex(8)
        self._ttl_ms = round(ttl_s * 1000)

    async def hold(self) -> int:
        """Takes or renews the lease; returns the fencing number, 0 where another holds it.

        Raises RedisError.
        """
        (fence,) = await self._leases.hold([self._key], holder=self._me, ttl_ms=self._ttl_ms)
        return fence

    async def release(self) -> None:
        """Gives the lease back, if it is held here, so that the next need not wait for its end."""
        await self._leases.hold([self._key], holder=self._me, ttl_ms=0)

    async def run(self, work: Callable[[int], Awaitable[object]], *, pause_s: float = 1.0) -> None:
        """Calls `work(fencing number)` every `pause_s` while the lease is held; forever.

        A call that fails is logged and made again; `pause_s` must be below half the lease's life.
        """
        time, fence, renewed = asyncio.get_running_loop().time, 0, 0.0
        try:
            while True:
                try:
                    # So each call begins with at least three quarters of the lease's life left.
                    if not fence or time() >= renewed + self._ttl_ms / 4000:
                        began = time()
                        fence = await self.hold()
                        renewed = began
                    if fence:
                        await work(fence)
                except Exception as error:
                    log.warning("leased_work_failed", lease=self._key, error=repr(error))
                await asyncio.sleep(pause_s)
        finally:
            with contextlib.suppress(*UNAVAILABLE):
                await self.release()


# Takes, renews or, with a life of 0, gives back the lease KEYS[1].
# ARGV: the holder, the life in ms, what our clock is ahead of Redis' in ms.
_LEASE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
local holder, fence, till = unpack(redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until'))
if holder ~= ARGV[1] or tonumber(till) <= now then
  if tonumber(till or '0') > now or ARGV[2] == '0' then
    return 0
  end
  -- Begins at the clock, so that it rises even over a loss of Redis' data.
  fence = math.max(tonumber(fence or '0') + 1, now)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', string.format('%.0f', fence),
  'until', string.format('%.0f', now + ARGV[2]))
return tonumber(fence)
"""
