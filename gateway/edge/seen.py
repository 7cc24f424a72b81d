"""What a connection was shown: no later read on it returns anything older."""

import time
from typing import Any

from cachetools import LRUCache

from gateway.edge.request import Request

BOARDS_MAX = 32  # remembered for one connection
FRESH_S = 1.0  # after an award reads go past every cache


class Seen:
    """The versions of boards that one connection was shown."""

    __slots__ = ("_awarded_s", "_shown")

    def __init__(self) -> None:
        # By board and the period as it was asked for: the id of the period that was shown, and
        # its version.
        self._shown: LRUCache[tuple[str, str], tuple[str, int]] = LRUCache(BOARDS_MAX)
        self._awarded_s = float("-inf")

    def show(self, board: str, asked: str, *, period: str, version: int) -> None:
        """A read of `board` that asked for a period as `asked` was answered with `period`."""
        # Ids of periods sort by time. A list that was begun in the last one is read to its end
        # there, though another has begun.
        if self._shown.get((board, asked), ("", 0)) < (period, version):
            self._shown[board, asked] = period, version

    def version(self, board: str, asked: str) -> int:
        """The newest version that such a read was answered with; 0: there was none."""
        return self._shown.get((board, asked), ("", 0))[1]

    def award(self) -> None:
        """An award was answered: the next reads look for it."""
        self._awarded_s = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether an award was answered a moment ago."""
        return time.monotonic() < self._awarded_s + FRESH_S


def seen_on(request: Request) -> Seen:
    """What the request's connection, a `listener.Connection`, was shown."""
    protocol: Any = request.http.protocol
    seen: Seen = protocol.seen
    return seen
