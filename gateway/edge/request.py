"""What handlers get: the request, and what its connection was shown before."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cachetools import LRUCache

from gateway.edge.idempotency import REPLAYED
from gateway.edge.identity import ANONYMOUS, Caller
from gateway.edge.limits import Standing

BOARDS_MAX = 32  # remembered for one connection
FRESH_S = 1.0  # after an award reads go past every cache


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request on its way."""

    http: web.BaseRequest  # aiohttp's own, for what is not said here
    request_id: str
    address: str  # the caller's, as text
    params: Mapping[str, str]  # the path parameters
    query: Mapping[str, Any] = field(default_factory=dict)  # each parameter that the route takes
    caller: Caller = ANONYMOUS  # where a token was needed, or given
    body: bytes = b""  # as it came, where the route takes one
    standing: Standing | None = None  # with the limits of the route
    key_hash: bytes = b""  # of caller, route and Idempotency-Key, where given
    repeat: bool = False  # its answer was given to an earlier request

    @property
    def headers(self) -> Mapping[str, str]:
        return self.http.headers

    @property
    def seen(self) -> "Seen":
        """What its connection, a `listener.Connection`, was shown."""
        protocol: Any = self.http.protocol
        seen: Seen = protocol.seen
        return seen

    def stamp(self) -> dict[str, str]:
        """The headers that every answer carries, unless it has its own."""
        headers = {
            "X-Request-Id": self.request_id,
            "Server": "scoreboard",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        if self.repeat:
            headers[REPLAYED] = "true"
        if self.standing is not None:
            headers |= self.standing.headers()
        return headers


class Seen:
    """The versions of boards that one connection was shown: no later read returns an older one."""

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
