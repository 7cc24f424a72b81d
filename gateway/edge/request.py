"""What handlers get: the request, and what is known of it by then."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway.edge.identity import ANONYMOUS, Caller
from gateway.edge.limits import Standing


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request on its way."""

    http: web.BaseRequest  # aiohttp's own, for what is not said here
    request_id: str
    address: str  # the caller's, as text
    params: Mapping[str, str]  # the path parameters
    caller: Caller = ANONYMOUS  # where a token was needed, or given
    body: bytes = b""  # as it came, where the route takes one
    standing: Standing | None = None  # with the limits of the route
    key_hash: bytes = b""  # of caller, route and Idempotency-Key, where given

    @property
    def headers(self) -> Mapping[str, str]:
        return self.http.headers

    def stamp(self) -> dict[str, str]:
        """The headers that every answer carries, unless it has its own."""
        headers = {
            "X-Request-Id": self.request_id,
            "Server": "scoreboard",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        if self.standing is not None:
            headers |= self.standing.headers()
        return headers
