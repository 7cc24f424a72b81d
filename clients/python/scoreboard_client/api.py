"""The way to the REST API: one session, and refusals as exceptions."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from scoreboard_client.model import ApiError


class Api:
    """Calls of a scoreboard at `base_url`, within `async with`.

    Every call raises ApiError for a refusal and aiohttp.ClientError or TimeoutError where
    there is no answer.
    """

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 15.0
    ) -> None:
        self._base = f"{base_url.rstrip('/')}/api/v1"
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        token = await self._token() if authorized else ""
        if token:
            sent["Authorization"] = f"Bearer {token}"
        return await self._send(method, path, json=body, headers=sent)

    async def _token(self) -> str:
        """The access token to show; empty: there is none."""
        return ""

    async def _send(self, method: str, path: str, **given: Any) -> Any:
        if self._session is None:
            raise RuntimeError(f"use `async with {type(self).__name__}(…) as …`")
        async with self._session.request(method, self._base + path, **given) as response:
            if response.status >= 400:
                is_problem = response.content_type == "application/problem+json"
                problem = await response.json() if is_problem else {}
                raise ApiError(response.status, problem)
            return await response.json() if response.status != 204 else None
