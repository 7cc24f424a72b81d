"""What handlers are given: the request, what is known of it by then, and the gateway's parts."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway.api.health import Health
from gateway.api.names import Names
from gateway.edge.etags import Etags
from gateway.edge.idempotency import Idempotency
from gateway.edge.identity import NOBODY, Identity, Verifier
from gateway.edge.limits import Limiter, Standing
from gateway.edge.sanctions import Sanctions
from gateway.edge.traffic import Traffic
from gateway.live.handler import LiveHandler
from gateway.settings import Settings
from gateway.upstreams import Upstreams


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All that requests are answered with."""

    settings: Settings
    upstreams: Upstreams
    verifier: Verifier
    limiter: Limiter
    etags: Etags
    idempotency: Idempotency
    names: Names
    sanctions: Sanctions
    health: Health
    traffic: Traffic
    live: LiveHandler


class Request:
    """One request on its way; `http` is aiohttp's own, for what is not said here."""

    __slots__ = (
        "address",
        "body",
        "headers",
        "http",
        "identity",
        "key_hash",
        "params",
        "parts",
        "request_id",
        "standing",
    )

    def __init__(
        self,
        http: web.BaseRequest,
        parts: Parts,
        *,
        request_id: str,
        address: str,
        params: Mapping[str, str],
    ) -> None:
        self.http = http
        self.headers = http.headers
        self.parts = parts
        self.request_id = request_id
        self.address = address  # the caller's, as text
        self.params = params  # what stands in the path's holes
        self.identity: Identity = NOBODY  # where a token was needed, or given
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
