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
from services.fraud.store import FraudStore

BLOCK_MS = 2000  # of a read that finds nothing
ENTRIES_MAX = 32  # of a read; an entry holds up to 256 events
PAUSE_S = 1.0  # after a store was unavailable
# Nothing waits for the copy, and a step costs about the same for one entry as for many.
GATHER_S = 1.0


class Follower:
    """Copies the stream of awards from the stored position.

    The position moves in one transaction with the rows, and only from where this replica had
    read: replicas may run side by side, restart and read entries twice.
    """

    def __init__(self, store: FraudStore, redis: Redis) -> None:
        self._store = store
        self._redis = redis
        self._position: str | None = None  # None: to be read, since another replica moved it

    async def run(self) -> None:
        """Copies, forever."""
        while True:
            try:
                if not await self.step():
                    await asyncio.sleep(GATHER_S)
            except (*UNAVAILABLE, DbUnavailable) as error:
                log.warning("awards_not_followed", error=repr(error))
                await asyncio.sleep(PAUSE_S)

    async def step(self) -> bool:
        """Copies the next entries, waiting up to 2 s for one; returns whether there may be more.

        Raises DbUnavailable, and what UNAVAILABLE lists.
        """
        after = self._position = self._position or await self._store.position()
        reader = StreamReader(self._redis, AWARDS, position=after)
        entries = await reader.read(count=ENTRIES_MAX, block_ms=BLOCK_MS)
        if not entries:
            return False
        events = [event for entry in entries for event in _read(entry)]
        self._position = await self._store.copy(events, after=after, upto=entries[-1].id)
        return len(entries) == ENTRIES_MAX


def _read(entry: Entry) -> Iterator[ScoreEvent]:
    """The events of an entry. What is unreadable is logged and skipped."""
    try:
        events = list(ScoreEvents.FromString(entry.batch).events)
    except DecodeError:
        events = []
    if not events:
        log.error("entry_unreadable", entry_id=entry.id)
    for event in events:
        if event.kind == ScoreEvent.PERIOD_CLOSED:
            continue  # has no player
        if is_uuid(event.event_id) and is_uuid(event.user_id):
            yield event
        else:
            log.error("event_unreadable", entry_id=entry.id, event_id=event.event_id)
