"""A Redis stream that is bounded: the writer that trims it, and a reader that knows what it lost.

Trimming takes the oldest entries, whether they were read or not. So a reader that was stopped for
too long reads on from the stream's end, and gets from the source what it has lost.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

from prometheus_client import Gauge

from chassis import clock
from chassis.redis.client import UNAVAILABLE, Redis, Script
from chassis.telemetry import log

FIRST = "0-0"
MEASURE_S = 1.0  # between two measurements by one writer, and two looks at the server by one reader
_SAMPLES = 32  # nodes of the stream that Redis looks at to estimate its bytes

_entries = Gauge("redis_stream_entries", "Entries that the stream holds", ["stream"])
_bytes = Gauge("redis_stream_bytes", "Memory that the stream takes, estimated", ["stream"])
_entries_max = Gauge("redis_stream_entries_max", "Its bound in entries, now", ["stream"])
_bytes_max = Gauge("redis_stream_bytes_max", "Its bound in bytes", ["stream"])


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a stream may hold: the least of the three counts."""

    entries_max: int
    bytes_max: int
    kept_s: float


class StreamWriter:
    """Appends to a stream within a bound; any number of processes may append to one.

    Entries are bounded up to 100 more than `entries_max`, which is what Redis trims at no cost.
    Bytes are bounded by entries of the mean size, the greater of that which the oldest have and
    that of what was appended last: within a tenth while entries are alike, and up to twice
    `bytes_max` for a while after their size has changed. Age is trimmed once a second, at an
    append.
    """

    def __init__(self, redis: Redis, stream: str, bound: Bound) -> None:
        self._redis = redis
        self._stream = stream
        self._bound = bound
        self._held = 0.0  # the mean size of an entry, of those in the stream
        self._appended = 0.0  # and of those appended last
        self._measured = 0.0  # of the event loop's clock
        _bytes_max.labels(stream).set(bound.bytes_max)

    @property
    def entries_max(self) -> int:
        """How many entries may be there now, by the bounds of entries and bytes."""
        mean = max(self._held, self._appended, 1.0)
        return max(1, min(self._bound.entries_max, int(self._bound.bytes_max / mean)))

    async def append(self, batch: bytes) -> None:
        """Appends an entry, its field `batch`, in one round trip. Raises RedisError."""
        # Quick to rise and slow to fall, so that larger entries make room for themselves.
        share = 1 / 8 if len(batch) > self._appended else 1 / 64
        self._appended += (len(batch) - self._appended) * share
        add = ("XADD", self._stream, "MAXLEN", "~", self.entries_max, "*", "batch", batch)
        now_s = asyncio.get_running_loop().time()
        if self._measured and now_s < self._measured + MEASURE_S:
            await self._redis.execute_many([add])
            return
        self._measured = now_s
        # The stream's ids follow Redis' clock, which ours may be ahead of.
        oldest_ms = clock.now_ms() - clock.offset_ms() - round(self._bound.kept_s * 1000)
        answers = await self._redis.execute_many(
            [
                add,
                ("XTRIM", self._stream, "MINID", "~", oldest_ms),
                ("XLEN", self._stream),
                ("MEMORY", "USAGE", self._stream, "SAMPLES", _SAMPLES),
            ]
        )
        self._measure(entries=answers[2], bytes_=answers[3])

    def _measure(self, *, entries: int, bytes_: int) -> None:
        # Of few entries, what the stream itself takes would be most of it.
        self._held = bytes_ / entries if entries >= 100 else 0.0
        _entries.labels(self._stream).set(entries)
        _bytes.labels(self._stream).set(bytes_)
        _entries_max.labels(self._stream).set(self.entries_max)


class Entry(NamedTuple):
    """An entry of a stream: its id, and its field `batch`."""

    id: str
    batch: bytes


class Position(NamedTuple):
    """How far a stream was read; to be kept as it is."""

    entry_id: str = FIRST  # of the last entry read, or of the stream's end where reading began
    entries: int = 0  # that the stream ever had up to there
    server: str = ""  # which server, with which history, had it; empty: not known

    @property
    def at_ms(self) -> int:
        """When that entry was appended, by Redis' clock (Unix ms)."""
        return _order(self.entry_id)[0]


class EntriesLost(Exception):
    """Entries behind the position are not in the stream any more, or may never have been.

    The reader goes on at the stream's end. What was appended since `since_ms` (Unix ms, by Redis'
    clock) is to be had from the source.
    """

    def __init__(self, stream: str, *, since_ms: int) -> None:
        super().__init__(f"{stream} has lost entries since {since_ms}")
        self.since_ms = since_ms


class StreamReader:
    """Reads every entry behind `position`, in order, or says that some are lost.

    A loss is never missed: entries trimmed before they were read, a stream deleted or begun again,
    a server that was restarted or replaced, which may lack its last entries. It may be stated where
    the trimming passes the reader in the middle of a read.
    """

    def __init__(self, redis: Redis, stream: str, *, position: Position | None = None) -> None:
        """`position`: as it was kept; None: the stream's end, at the first read."""
        self.stream = stream
        self.position = position
        self._redis = redis
        self._look = Script.read(redis, __package__, "look.lua", read_only=True)
        self._server_due = 0.0  # of the event loop's clock

    async def begin(self) -> Position:
        """Takes the stream's end as the position, and returns it. Raises what UNAVAILABLE lists."""
        self.position = (await self._state("", server=True)).end
        return self.position

    async def read(self, *, count: int, block_ms: int) -> list[Entry]:
        """The next entries, waiting up to `block_ms` for one.

        Raises EntriesLost, and what UNAVAILABLE lists.
        """
        before = self.position or await self.begin()
        try:
            found: Any = await self._redis.xread(
                {self.stream: before.entry_id}, count=count, block=block_ms
            )
            # Behind the read: what is trimmed between the two was read, or is seen to be lost.
            self.position = await self._checked(before)
        except UNAVAILABLE:
            self._server_due = 0.0  # it may be another one when it is back
            raise
        entries = [
            Entry(entry_id.decode(), fields.get(b"batch", b""))
            for _, batch in found or ()
            for entry_id, fields in batch
        ]
        if entries:
            read = before.entries + len(entries)
            self.position = self.position._replace(entry_id=entries[-1].id, entries=read)
        return entries

    async def _checked(self, before: Position) -> Position:
        """`before`, of the server that has it. Raises EntriesLost, the position moved to the end,
        where entries behind it are lost."""
        now_s = asyncio.get_running_loop().time()
        with_server = now_s >= self._server_due
        state = await self._state(before.entry_id, server=with_server)
        if with_server:
            self._server_due = now_s + MEASURE_S
        known = before.server or state.end.server
        if state.lost(before) or (with_server and state.end.server != known):
            await self.begin()
            log.warning("stream_entries_lost", stream_key=self.stream, since_ms=before.at_ms)
            raise EntriesLost(self.stream, since_ms=before.at_ms)
        return before._replace(server=known)

    async def _state(self, entry_id: str, *, server: bool) -> "_State":
        wanted = "server" if server else ""
        held, added, removed, last, now_ms, name = await self._look(
            [self.stream], [entry_id, wanted]
        )
        # Of a stream that is not there: all that it will hold is appended from now on.
        end = last.decode() or f"{now_ms - 1}-0"
        return _State(bool(held), removed, Position(end, added, name.decode()))


class _State(NamedTuple):
    held: bool  # the entry at the position
    removed: int  # entries, from the first on
    end: Position

    def lost(self, position: Position) -> bool:
        """Whether entries behind `position` are lost.

        Where its entry was trimmed, so were all before it. Any other number of entries removed
        means that more were, or that this is another stream.
        """
        if self.held:
            return False
        behind = _order(self.end.entry_id) < _order(position.entry_id)
        return self.removed != position.entries or (behind and self.end.entries > 0)


def _order(entry_id: str) -> tuple[int, int]:
    at_ms, _, number = entry_id.partition("-")
    return int(at_ms), int(number)
