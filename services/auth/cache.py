"""The copy of live sessions in Redis, `{auth}:session:<sid>`; what counts is in Postgres."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from chassis import clock
from chassis.redis import UNAVAILABLE, Redis
from chassis.telemetry import log
from services.auth.store import Account, Device, Session

WAIT_S = 0.5  # what a login waits for Redis at most


class SessionCache:
    """Keeps and forgets sessions. That Redis is unavailable fails nothing, and is logged."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def put(self, session: Session, account: Account, device: Device) -> None:
        """Keeps the session until it expires."""
        left_ms = max(1, _ms(session.expires_at) - clock.now_ms())
        try:
            async with asyncio.timeout(WAIT_S):
                pipe = self._redis.pipeline(transaction=True)
                pipe.hset(
                    _key(session.sid),
                    mapping={
                        "userId": account.user_id,
                        "username": account.username,
                        "address": device.address,
                        "userAgent": device.user_agent,
                        "createdAt": _ms(session.created_at),
                        "lastSeenAt": _ms(session.last_seen_at),
                        "expiresAt": _ms(session.expires_at),
                    },
                )
                pipe.pexpire(_key(session.sid), left_ms)
                await pipe.execute()
        except UNAVAILABLE as error:
            log.warning("session_not_cached", sid=session.sid, error=repr(error))

    async def drop(self, sids: Sequence[str]) -> None:
        """Forgets these sessions."""
        if not sids:
            return
        try:
            async with asyncio.timeout(WAIT_S):
                await self._redis.delete(*map(_key, sids))
        except UNAVAILABLE as error:
            log.warning("session_not_dropped", sids=sids, error=repr(error))


def _key(sid: str) -> str:
    return f"{{auth}}:session:{sid}"


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
