"""Follows `{events}:awards` into fraud's own copy of the awards, each event once.

What the stream has lost before it was read comes from the ledger, by `Scores.Changes`.
"""

import asyncio
from collections.abc import Iterator

from google.protobuf.message import DecodeError
from prometheus_client import Gauge

from chassis import clock
from chassis.errors import Failed
from chassis.ids import is_uuid
from chassis.redis import UNAVAILABLE, Redis
from chassis.redis.stream import EntriesLost, Entry, StreamReader
from chassis.telemetry import log
from protos.events_pb2 import ScoreEvent, ScoreEvents
from protos.scores_pb2 import ChangesRequest
from protos.scores_pb2_grpc import ScoresStub
from protos.streams import AWARDS
from services.fraud.store import FraudStore, Progress

BLOCK_MS = 2000  # of a read that finds nothing
ENTRIES_MAX = 32  # of a read; an entry holds up to 256 events
PAUSE_S = 1.0  # after a store or scores was unavailable
# Nothing waits for the copy, and a step costs about the same for one entry as for many.
GATHER_S = 1.0
CHANGES_MAX = 1000  # of a page
CHANGES_S = 10.0  # for a page
SHOW_S = 5.0  # between two lines about a catch-up

behind_s = Gauge(
    "fraud_awards_behind_seconds", "How far a catch-up of the awards is behind; 0: none runs"
)


class Follower:
    """Copies the stream of awards from the stored position.

    The position moves in one transaction with the rows, and only from where this replica had
    read: replicas may run side by side, restart and read entries twice. So does a catch-up's.
    """

    def __init__(self, store: FraudStore, redis: Redis, scores: ScoresStub) -> None:
        self._store = store
        self._redis = redis
        self._scores = scores
        self._progress: Progress | None = None  # None: to be read, since another replica moved it
        self._reader = StreamReader(redis, AWARDS)
        self._shown_s = 0.0

    async def run(self) -> None:
        """Copies, forever."""
        while True:
            try:
                if not await self.step():
                    await asyncio.sleep(GATHER_S)
            except (Failed, *UNAVAILABLE) as error:
                log.warning("awards_not_followed", error=repr(error))
                await asyncio.sleep(PAUSE_S)

    async def step(self) -> bool:
        """Copies the next entries, waiting up to 2 s for one, or the next page of a catch-up.

        Returns whether there may be more. Raises Failed, and what UNAVAILABLE lists.
        """
        progress = self._progress
        if progress is None:
            progress = self._progress = await self._store.progress()
            self._reader = StreamReader(self._redis, AWARDS, position=progress.position)
        if progress.since_ms is not None:
            await self._catch_up(progress, progress.since_ms)
            return True
        try:
            entries = await self._reader.read(count=ENTRIES_MAX, block_ms=BLOCK_MS)
        except EntriesLost as lost:
            since_ms = max(0, lost.since_ms + clock.offset_ms())
            await self._copy([], progress, self._read_upto(progress)._replace(since_ms=since_ms))
            log.warning("awards_catch_up_began", since=clock.rfc3339(since_ms))
            return True
        if not entries:
            return False
        events = [event for entry in entries for event in _read(entry)]
        await self._copy(events, progress, self._read_upto(progress))
        return len(entries) == ENTRIES_MAX

    async def _catch_up(self, progress: Progress, since_ms: int) -> None:
        """Copies a page of the ledger. With the last one the stream goes on where it was lost.

        Changes that are written behind the cursor meanwhile are published behind that place.
        """
        request = ChangesRequest(since_ms=since_ms, cursor=progress.cursor, limit=CHANGES_MAX)
        page = await self._scores.Changes(request, timeout=CHANGES_S)
        upto = progress._replace(cursor=page.next_cursor)
        if not page.next_cursor:
            upto = Progress(progress.position)
        await self._copy(list(page.events), progress, upto)
        self._show(page.upto_ms, ended=not page.next_cursor)

    def _read_upto(self, before: Progress) -> Progress:
        return Progress(self._reader.position or before.position)

    async def _copy(self, events: list[ScoreEvent], after: Progress, upto: Progress) -> None:
        try:
            self._progress = await self._store.copy(events, after=after, upto=upto)
        except Failed:
            self._progress = None  # the reader is ahead of what was stored, or it was stored
            raise

    def _show(self, upto_ms: int, *, ended: bool) -> None:
        behind = 0.0 if ended else max(0, clock.now_ms() - upto_ms) / 1000
        behind_s.set(behind)
        now_s = asyncio.get_running_loop().time()
        if ended:
            log.info("awards_caught_up")
        elif now_s >= self._shown_s + SHOW_S:
            self._shown_s = now_s
            log.info("awards_catch_up_progressed", upto=clock.rfc3339(upto_ms), behind_s=behind)


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
