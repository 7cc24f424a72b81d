"""One reader of a Redis stream: its position, also after a server that counts again."""

from typing import Any, NamedTuple

from chassis.redis.client import UNAVAILABLE, Redis

FIRST = "0-0"


class Entry(NamedTuple):
    """An entry of a stream: its id, and its field `batch`."""

    id: str
    batch: bytes


class StreamReader:
    """Reads every entry behind `position`, in order."""

    def __init__(self, redis: Redis, stream: str, *, position: str | None = None) -> None:
        """`position` is an entry's id; None: the newest one, at the first read."""
        self.stream = stream
        self.position = position
        self._redis = redis
        self._failed = False

    async def begin(self) -> None:
        """Finds the position. Raises what UNAVAILABLE lists."""
        newest: Any = await self._redis.xrevrange(self.stream, count=1)
        end = newest[0][0].decode() if newest else FIRST
        # A server that lost its data, or took over, may count from further back.
        self.position = end if self.position is None else min(self.position, end, key=_order)

    async def read(self, *, count: int, block_ms: int) -> list[Entry]:
        """The next entries, waiting up to `block_ms` for one. Raises what UNAVAILABLE lists."""
        try:
            if self.position is None or self._failed:
                await self.begin()
            found: Any = await self._redis.xread(
                {self.stream: self.position or FIRST}, count=count, block=block_ms
            )
        except UNAVAILABLE:
            self._failed = True
            raise
        self._failed = False
        entries = [
            Entry(entry_id.decode(), fields.get(b"batch", b""))
            for _, batch in found or ()
            for entry_id, fields in batch
        ]
        if entries:
            self.position = entries[-1].id
        return entries


def _order(entry_id: str) -> tuple[int, int]:
    at_ms, _, number = entry_id.partition("-")
    return int(at_ms), int(number)
