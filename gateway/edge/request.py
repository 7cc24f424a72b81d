"""What handlers get: the request, and what is known of it by then."""

from collections.abc import Mapping

from aiohttp import web

from gateway.edge.identity import ANONYMOUS, Caller
from gateway.edge.limits import Standing


class Request:
    """One request on its way; `http` is aiohttp's own, for what is not said here."""

    __slots__ = (
        "address",
        "body",
        "caller",
        "headers",
        "http",
        "key_hash",
        "params",
        "request_id",
        "standing",
    )

    def __init__(
        self,
        http: web.BaseRequest,
        *,
        request_id: str,
        address: str,
        params: Mapping[str, str],
    ) -> None:
        self.http = http
        self.headers = http.headers
        self.request_id = request_id
        self.address = address  # the caller's, as text
        self.params = params  # the path parameters
        self.caller: Caller = ANONYMOUS  # where a token was needed, or given
        self.body = b""  # as it came, where the route takes one
        self.standing: Standing | None = None  # with the limits of the route
        self.key_hash = b""  # of caller, route and Idempotency-Key, where given

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
