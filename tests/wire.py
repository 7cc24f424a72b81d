"""Requests as they go over the wire: one connection, and of each answer status, headers, bytes."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.people import address
from tests.suite import Suite


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code of a failure."""
        return self.status, self.json["code"]


class Wire:
    """One connection to the API."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._base = f"{url}/api/v1"
        self._token = token

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Raises aiohttp.ClientError, TimeoutError where there is no answer."""
        sent = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async with self._session.request(
            method, self._base + path, json=body, headers={**sent, **(headers or {})}
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def form(self, path: str, fields: Mapping[str, str], *, user: str, secret: str) -> Reply:
        """Sends a form under HTTP Basic."""
        basic = b64encode(f"{user}:{secret}".encode()).decode()
        async with self._session.post(
            self._base + path, data=fields, headers={"Authorization": f"Basic {basic}"}
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


@asynccontextmanager
async def wired(suite: Suite, token: str = "") -> AsyncIterator[Wire]:
    """A connection of one's own, from an address of one's own, with that access token."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        headers=address(),
        timeout=aiohttp.ClientTimeout(total=15),
    ) as session:
        yield Wire(session, suite.url, token)
