"""Follows `{events}:awards` into fraud's own copy of the awards, each event once."""

import asyncio
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from chassis.ids import is_uuid
from chassis.postgres import DbUnavailable
from chassis.redis import UNAVAILABLE, Redis
from chassis.redis.stream import Entry, StreamReader
from chassis.telemetry import log
from protos.events_pb2 import ScoreEvent, ScoreEvents
from protos.streams import AWARDS
from services.fraud.store import Event, FraudStore

BLOCK_S = 2.0
ENTRIES_MAX = 32  # of a read; an entry holds up to 256 events
PAUSE_S = 1.0  # after a store was unavailable
# Nothing waits for the copy, and a step costs much the same for one entry as for many.
GATHER_S = 1.0

_KINDS = {number: name.lower() for name, number in ScoreEvent.Kind.items()}


class Follower:
    """Copies the stream of awards, from where any replica left off.

    The position moves in one transaction with the rows, and only from where the replica
    that moves it had read: replicas may run side by side, restart and see entries twice.
    """

    def __init__(self, store: FraudStore, redis: Redis) -> None:
        self._store = store
        self._redis = redis
        self._position: str | None = None  # as long as only this replica moves it

    async def run(self) -> None:
        """Copies, forever."""
        while True:
            try:
                if not await self.step():
                    await asyncio.sleep(GATHER_S)
            except (*UNAVAILABLE, DbUnavailable) as error:
                log.warning("awards_not_followed", error=repr(error))
                await asyncio.sleep(PAUSE_S)

    async def step(self, *, block_s: float = BLOCK_S) -> bool:
        """Copies what came, waiting up to `block_s` for it; whether there may be more.

        Raises DbUnavailable and RedisError.
        """
        after = self._position = self._position or await self._store.position()
        reader = StreamReader(self._redis, AWARDS, position=after)
        entries = await reader.read(count=ENTRIES_MAX, block_ms=int(block_s * 1000))
        if not entries:
            return False
        events = [event for entry in entries for event in _read(entry)]
        self._position = await self._store.copy_events(events, after=after, upto=entries[-1].id)
        return len(entries) == ENTRIES_MAX


def _read(entry: Entry) -> Iterator[Event]:
    """The entry's events. What is unreadable is logged and passed over."""
    try:
        events = list(ScoreEvents.FromString(entry.batch).events)
    except DecodeError:
        events = []
    if not events:
        log.error("entry_unreadable", entry_id=entry.id)
    for event in events:
        if event.kind == ScoreEvent.PERIOD_CLOSED:
            continue  # is of no player
        if is_uuid(event.event_id) and is_uuid(event.user_id):
            yield _event(event)
        else:
            log.error("event_unreadable", entry_id=entry.id, event_id=event.event_id)


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
