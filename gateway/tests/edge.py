"""A gateway as its callers meet it, before the fake services."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from chassis.keyring import Keyring
from chassis.testing import Certificates
from gateway.__main__ import opened
from gateway.edge.addresses import Proxies
from gateway.edge.limits import RequestLimits
from gateway.edge.listener import listening
from gateway.edge.middleware import Route
from gateway.routes import routes
from gateway.settings import Settings
from gateway.tests.services import ACTION, ADA, AT, AUDIENCE, ISSUER, Fakes, encoded

KEYS = Keyring(f"1:{encoded(bytes(32))}")
UPDATE = {
    "userId": ADA,
    "actionId": ACTION,
    "actionType": "WIN_GAME",
    "scoreIncrement": 50,
    "timestamp": AT,
    "clientSignature": "ab" * 32,
}
PROOF = {"completionTime": 5000, "checksum": "cd" * 32}


class Unused:
    """Stands for what a route's handler is made of, where no handler is called."""

    def __getattr__(self, name: str) -> Any:
        return self


def api() -> tuple[Route, ...]:
    """Every route, to be looked at."""
    unused: Any = Unused()
    return routes(
        unused,
        verifier=unused,
        etags=unused,
        names=unused,
        limits=RequestLimits(),
        live=unused,
        health=unused,
        draining=unused,
        query_token=True,
    )


@dataclass(frozen=True)
class Answered:
    """What came back for one request."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; also checks that it is a whole problem."""
        problem = self.json()
        assert self.headers["Content-Type"] == "application/problem+json"
        assert problem["status"] == self.status
        assert problem["requestId"] == self.headers["X-Request-Id"]
        assert problem["type"] == f"urn:scoreboard:problem:{problem['code']}"
        assert problem["title"]
        assert problem["detail"]
        return str(problem["code"])


@dataclass
class Edge:
    """A gateway that listens, and a client of it."""

    base: str
    port: int
    client: aiohttp.ClientSession
    fakes: Fakes
    address: str = "198.51.100.7"

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        address: str | None = None,
    ) -> Answered:
        """Calls `path`; `body` is sent as JSON, `data` as it is."""
        sent = {"X-Forwarded-For": address or self.address, **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(method, self.base + path, data=data, headers=sent) as found:
            return Answered(found.status, found.headers, await found.read())

    async def play(self, path: str, body: Any, user_id: str = ADA, **more: Any) -> Answered:
        """Posts to `/api/v1` as a player."""
        token = self.fakes.signer.token(user_id)
        return await self.call("POST", f"/api/v1{path}", body, token=token, **more)


def edge_settings(
    fakes: Fakes, certificates: Certificates, redis_url: str, **changed: Any
) -> Settings:
    given = {
        "tls_dir": certificates.folder / "gateway",
        "redis_url": redis_url,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "idempotency_keys": KEYS,
        "ws_query_token": True,
        "trusted_proxies": Proxies("127.0.0.0/8, ::1/128"),
        **fakes.targets,
    }
    return Settings(**{**given, **changed})


@asynccontextmanager
async def edge_of(settings: Settings, fakes: Fakes) -> AsyncIterator[Edge]:
    """A gateway of these settings within the context."""

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client,
        opened(settings) as gateway,
        listening(gateway, settings=settings) as port,
    ):
        yield Edge(f"http://127.0.0.1:{port}", port, client, fakes)
