"""Follows `{events}:awards` into fraud's own copy of the awards, each event once."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from chassis.postgres import AWAY
from chassis.redis import Redis
from chassis.telemetry import log
from protos.events_pb2 import ScoreEvent, ScoreEvents
from services.fraud.store import Event, FraudStore

STREAM = "{events}:awards"
SHOWN = "{events}:position:fraud"  # the ledger seq, from which scores would append again
BLOCK_S = 2.0
ENTRIES_MAX = 32  # of a read; an entry holds up to 256 events
PAUSE_S = 1.0  # after a store was away
# Nothing waits for the copy, and a step costs much the same for one entry as for many.
GATHER_S = 1.0

Entry = tuple[bytes, dict[bytes, bytes]]

_KINDS = {number: name.lower() for name, number in ScoreEvent.Kind.items()}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Follower:
    """Copies the stream of awards, from where any replica left off.

    The position moves in one transaction with the rows, and only from where the replica
    that moves it had read: replicas may run side by side, restart and see entries twice.
    """

    def __init__(self, store: FraudStore, redis: Redis) -> None:
        self._store = store
        self._redis = redis
        self._position: tuple[str, int] | None = None  # as long as only this replica moves it

    async def run(self) -> None:
        """Copies, for ever."""
        while True:
            try:
                if not await self.step():
                    await asyncio.sleep(GATHER_S)
            except (RedisError, *AWAY) as error:
                log.warning("awards_not_followed", error=repr(error))
                await asyncio.sleep(PAUSE_S)

    async def step(self, *, block_s: float = BLOCK_S) -> bool:
        """Copies what came, waiting up to `block_s` for it; whether there may be more.

        Raises what the stores raise.
        """
        after, seq = self._position = self._position or await self._store.position()
        # Shown again each time, since whoever needs it needs it when Redis has lost its data.
        await self._redis.set(SHOWN, seq)
        # A stream that is not there yet is waited for like one without news.
        found: Any = await self._redis.xread(
            {STREAM: after}, count=ENTRIES_MAX, block=int(block_s * 1000)
        )
        entries: list[Entry] = [entry for _, entries in found or () for entry in entries]
        if not entries:
            return False
        upto = entries[-1][0].decode()
        events = [event for entry in entries for event in _read(entry)]
        self._position = await self._store.copy_events(events, after=after, upto=upto)
        return len(entries) == ENTRIES_MAX


def _read(entry: Entry) -> Iterator[Event]:
    """The entry's events. What nobody can read is logged and passed over."""
    entry_id, fields = entry
    try:
        events = ScoreEvents.FromString(fields[b"batch"]).events
    except (DecodeError, KeyError) as error:
        log.error("entry_unreadable", entry_id=entry_id.decode(), error=repr(error))
        return
    for event in events:
        if event.kind == ScoreEvent.PERIOD_CLOSED:
            continue  # is of no player
        if _UUID.fullmatch(event.event_id) and _UUID.fullmatch(event.user_id):
            yield _event(event)
        else:
            log.error("event_unreadable", entry_id=entry_id.decode(), event_id=event.event_id)


def _event(event: ScoreEvent) -> Event:
    return Event(
        event_id=event.event_id,
        kind=_KINDS[event.kind],
        seq=event.seq,
        user_id=event.user_id,
        version=event.version,
        action_type=event.action_type,
        points=event.points,
        old_score=event.old_score,
        new_score=event.new_score,
        at_ms=event.at_ms,
    )
