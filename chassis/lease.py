"""Leases in Redis: work that must not run twice is done by whoever holds the lease.

Each new holder gets a higher fencing number, so that what an old holder still does
late can be told from the present one's.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis import clock
from chassis.redis import Script
from chassis.telemetry import log


class Lease:
    """One process's claim to the lease `key`, for `ttl_s` beyond each renewal."""

    def __init__(self, redis: Redis, key: str, *, ttl_s: float = 5.0) -> None:
        self._key = key
        self._me = secrets.token_hex(8)
        self._ttl_ms = round(ttl_s * 1000)
        self._hold = Script(redis, _HOLD)
        self._release = Script(redis, _RELEASE)

    async def hold(self) -> int | None:
        """Takes or renews the lease; answers the fencing number, None where another holds it.

        Raises RedisError.
        """
        number = await self._hold([self._key], [self._me, self._ttl_ms, clock.offset_ms()])
        return int(number) if number else None

    async def release(self) -> None:
        """Gives the lease back, if it is held here, so that the next need not wait for its end."""
        await self._release([self._key], [self._me])

    async def run(self, work: Callable[[int], Awaitable[object]], *, pause_s: float = 1.0) -> None:
        """Calls `work(fencing number)` every `pause_s` while the lease is held; for ever.

        A call that fails is logged and made again; `pause_s` must be below the lease's life.
        """
        try:
            while True:
                try:
                    number = await self.hold()
                    if number is not None:
                        await work(number)
                except Exception as error:
                    log.warning("leased_work_failed", lease=self._key, error=repr(error))
                await asyncio.sleep(pause_s)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await self.release()


# The hash keeps its own end beside the time to live, which only clears away: so a clock that
# is moved moves the lease's end as well.
_HOLD = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until', 'number')
if lease[1] and lease[1] ~= ARGV[1] and tonumber(lease[2]) > now then
  return false
end
local number = tonumber(lease[3] or '0')
if lease[1] ~= ARGV[1] or tonumber(lease[2]) <= now then
  number = number + 1
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', now + ARGV[2], 'number', number)
redis.call('PEXPIRE', KEYS[1], 86400000)
return number
"""

_RELEASE = """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'until', 0)
end
return 1
"""
