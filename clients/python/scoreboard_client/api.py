"""The way to the REST API: one session, its access token, and refusals as exceptions."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Self

import aiohttp

from scoreboard_client.model import ApiError, Limit, limits

RENEW_BEFORE_S = 30


class Api:
    """Calls of a scoreboard at `base_url`, within `async with`.

    Every call raises ApiError for a refusal and aiohttp.ClientError or TimeoutError where
    there is no answer. `limits` are those that the responses so far have named.
    """

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 15.0
    ) -> None:
        self._base = f"{base_url.rstrip('/')}/api/v1"
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._renew_at = 0.0  # of the monotonic clock
        self._renewing = asyncio.Lock()
        self.access_token = ""
        self.limits: dict[str, Limit] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        authorized: bool = True,
    ) -> Any:
        """Any call of the API below /api/v1; renews the access token when it is due."""
        sent = dict(headers or {})
        if authorized:
            async with self._renewing:
                if time.monotonic() >= self._renew_at:
                    await self._renew()
            if self.access_token:
                sent["Authorization"] = f"Bearer {self.access_token}"
        return await self._send(method, path, json=body, headers=sent)

    async def _renew(self) -> None:
        """Gets an access token, where there is something to get one by."""

    def _take_token(self, token: str, *, expires_in_s: int) -> None:
        self.access_token = token
        self._renew_at = time.monotonic() + expires_in_s - RENEW_BEFORE_S

    async def _send(self, method: str, path: str, **given: Any) -> Any:
        if self._session is None:
            raise RuntimeError(f"use `async with {type(self).__name__}(…) as …`")
        async with self._session.request(method, self._base + path, **given) as response:
            self.limits |= limits(response.headers.get("RateLimit-Policy", ""))
            if response.status >= 400:
                is_problem = response.content_type == "application/problem+json"
                raise ApiError(response.status, await response.json() if is_problem else {})
            return await response.json() if response.status != 204 else None
