"""Who is flagged or banned, as fraud says: followed from its stream, caught up by version."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from chassis import clock
from chassis.errors import Failed
from chassis.redis import Redis
from chassis.telemetry import log
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction

STREAM = "{fraud}:sanctions"
CATCH_UP_S = 30.0
CATCH_UP_AWAY_S = 0.5  # while Redis tells nothing
PAGE = 1000
_BLOCK_MS = 1000


class Sanctions:
    """The sanction in force of every player who has one.

    `since(version)` answers at most 1000 sanctions newer than `version`, oldest first.
    """

    def __init__(self, since: Callable[[int], Awaitable[Sequence[Sanction]]]) -> None:
        self._since = since
        self._known: dict[str, Sanction] = {}
        self._caught_up = 0  # every sanction up to this version is known
        self._listeners: list[Callable[[Sanction], None]] = []
        self._redis_away = False

    def flagged(self, user_id: str) -> bool:
        """Whether the player's limits are halved."""
        return self._in_force(user_id) == Sanction.FLAGGED

    def banned(self, user_id: str) -> bool:
        """Whether the player may do nothing at all."""
        return self._in_force(user_id) == Sanction.BANNED

    def listen(self, listener: Callable[[Sanction], None]) -> None:
        """Calls `listener` with every sanction that is newer than the player's known one."""
        self._listeners.append(listener)

    async def catch_up(self) -> None:
        """Asks fraud for what is not known yet. Raises Failed."""
        while True:
            page = await self._since(self._caught_up)
            for sanction in page:
                self._learn(sanction)
                # Only here: the stream may bring a newer version before an older one.
                self._caught_up = max(self._caught_up, sanction.version)
            if len(page) < PAGE:
                return

    async def follow(self, redis: Redis) -> None:
        """Reads the stream, and catches up every 30 s, twice a second while Redis is away."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(redis))
            tasks.create_task(self._catch_up_for_ever())

    async def _catch_up_for_ever(self) -> None:
        waited_s = CATCH_UP_S
        while True:
            if waited_s >= (CATCH_UP_AWAY_S if self._redis_away else CATCH_UP_S):
                waited_s = 0.0
                try:
                    await self.catch_up()
                except Failed as failed:
                    log.warning("sanctions_not_caught_up", error=repr(failed))
            await asyncio.sleep(CATCH_UP_AWAY_S)
            waited_s += CATCH_UP_AWAY_S

    async def _read(self, redis: Redis) -> None:
        # Everything here is what redis-py answers, whose types say little.
        position: Any = None
        found: Any
        while True:
            try:
                if position is None:
                    # What stands there already is in what fraud answers to `catch_up`.
                    newest = await redis.xrevrange(STREAM, count=1)
                    position = newest[0][0] if newest else b"0"
                found = await redis.xread({STREAM: position}, count=PAGE, block=_BLOCK_MS)
                self._redis_away = False
            except (RedisError, OSError) as error:
                if not self._redis_away:
                    log.warning("sanctions_stream_away", error=repr(error))
                self._redis_away = True
                await asyncio.sleep(CATCH_UP_AWAY_S)
                continue
            for _, entries in found or ():
                for entry_id, fields in entries:
                    position = entry_id
                    self._take(fields.get(b"batch", b""))

    def _take(self, batch: bytes) -> None:
        try:
            events = SanctionEvents.FromString(batch)
        except DecodeError:
            log.error("sanction_unreadable")
            return
        for sanction in events.sanctions:
            self._learn(sanction)

    def _learn(self, sanction: Sanction) -> None:
        known = self._known.get(sanction.user_id)
        if known is not None and known.version >= sanction.version:
            return
        self._known[sanction.user_id] = sanction
        for listener in self._listeners:
            listener(sanction)

    def _in_force(self, user_id: str) -> int:
        sanction = self._known.get(user_id)
        if sanction is None or 0 < sanction.until_ms <= clock.now_ms():
            return Sanction.NONE
        return sanction.kind
