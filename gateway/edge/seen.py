"""What a connection was shown: no later read on it returns anything older."""

import time
from dataclasses import dataclass
from typing import Protocol, cast

import cachetools

from gateway.edge.request import Request

BOARDS_MAX = 32  # remembered for one connection
FRESH_S = 1.0  # after an award reads go past every cache


class _Remembering(Protocol):
    seen: "Seen"


@dataclass(frozen=True, slots=True)
class _Shown:
    period: str  # its id
    version: int


class Seen:
    """The versions of boards that one connection was shown."""

    __slots__ = ("_awarded_s", "_shown")

    def __init__(self) -> None:
        self._shown: cachetools.LRUCache[tuple[str, str], _Shown] = cachetools.LRUCache(BOARDS_MAX)
        self._awarded_s = float("-inf")

    def show(self, board: str, asked: str, *, period: str, version: int) -> None:
        """A read of `board` that asked for a period as `asked` was answered with `period`."""
        before = self._shown.get((board, asked))
        # Ids of periods sort by time. A list that was begun in the last one is read to its end
        # there, though another has begun.
        if before and (before.period, before.version) >= (period, version):
            return
        self._shown[board, asked] = _Shown(period, version)

    def version(self, board: str, asked: str) -> int:
        """The newest version that such a read was answered with; 0: there was none."""
        shown = self._shown.get((board, asked))
        return shown.version if shown else 0

    def award(self) -> None:
        """An award was answered: the next reads look for it."""
        self._awarded_s = time.monotonic()

    @property
    def fresh(self) -> bool:
        """Whether an award was answered a moment ago."""
        return time.monotonic() < self._awarded_s + FRESH_S


def seen_on(request: Request) -> Seen:
    """What the request's connection was shown."""
    return cast(_Remembering, request.http.protocol).seen
