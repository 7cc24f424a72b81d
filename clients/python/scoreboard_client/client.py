"""The REST side: accounts, actions, awards, boards."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp

from scoreboard_client import signing
from scoreboard_client.model import Action, ApiError, Award

RENEW_BEFORE_S = 30


class Client:
    """One player's connection to a scoreboard at `base_url`.

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
        self._refresh_token = ""
        self._renew_at = 0.0  # of the monotonic clock
        self._renewing = asyncio.Lock()
        self.user_id = ""
        self.username = ""
        self.access_token = ""

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

    async def register(self, username: str, password: str) -> None:
        """Makes an account and logs in."""
        body = {"username": username, "password": password}
        self._log_in(await self.call("POST", "/auth/register", body, authorized=False))

    async def login(self, username: str, password: str) -> None:
        """Logs in."""
        body = {"username": username, "password": password}
        self._log_in(await self.call("POST", "/auth/login", body, authorized=False))

    async def request_action(self, action_type: str) -> Action:
        """The one-time right to be awarded for one play, which begins now."""
        body = await self.call("POST", "/actions/request", {"actionType": action_type})
        issued = datetime.fromisoformat(body["issuedAt"]).timestamp()
        return Action.parse(body, clock_ahead_s=issued - time.time())

    async def complete(
        self, action: Action, *, completion_time_ms: int, evidence: Any = None
    ) -> Award:
        """Proves the play and is awarded, in one call."""
        proof, timestamp = self._proof(action, completion_time_ms, evidence)
        body = {"actionToken": action.token, "proof": proof, "timestamp": timestamp}
        return Award.parse(await self.call("POST", "/actions/complete", body))

    async def verify(
        self, action: Action, *, completion_time_ms: int, evidence: Any = None
    ) -> Action:
        """Proves the play; answers the action with a fresh token, to be redeemed later."""
        proof, timestamp = self._proof(action, completion_time_ms, evidence)
        body = await self.call(
            "POST",
            "/actions/complete",
            {
                "actionId": action.action_id,
                "actionType": action.action_type,
                "proof": proof,
                "timestamp": timestamp,
            },
        )
        return replace(action, token=body["actionToken"], score_increment=body["scoreIncrement"])

    async def update(
        self,
        action: Action,
        *,
        completion_time_ms: int | None = None,
        evidence: Any = None,
        idempotency_key: str | None = None,
    ) -> Award:
        """Redeems a token by `POST /scores/update`; with a proof where none was given before."""
        timestamp = _timestamp(action)
        body: dict[str, Any] = {
            "userId": self.user_id,
            "actionId": action.action_id,
            "actionType": action.action_type,
            "scoreIncrement": action.score_increment,
            "timestamp": timestamp,
            "clientSignature": signing.client_signature(
                action, user_id=self.user_id, timestamp=timestamp
            ),
        }
        if completion_time_ms is not None:
            body["proof"] = self._proof(action, completion_time_ms, evidence, timestamp)[0]
        return await self._redeem("/scores/update", action, body, idempotency_key)

    async def increment(
        self,
        action: Action,
        *,
        completion_time_ms: int | None = None,
        evidence: Any = None,
        idempotency_key: str | None = None,
    ) -> Award:
        """Redeems a token by `POST /scores/increment`: with a proof, or with a signature alone."""
        timestamp = _timestamp(action)
        body: dict[str, Any] = {"timestamp": timestamp}
        if completion_time_ms is None:
            body["clientSignature"] = signing.client_signature(
                action, user_id=self.user_id, timestamp=timestamp
            )
        else:
            body["proof"] = self._proof(action, completion_time_ms, evidence, timestamp)[0]
        return await self._redeem("/scores/increment", action, body, idempotency_key)

    async def receipt(self, action_id: str) -> Award:
        """The award of an action as it was answered, for a client that lost the reply."""
        return Award.parse(await self.call("GET", f"/me/scores/{action_id}"))

    async def leaderboard(self, board: str = "all_time", *, limit: int = 10) -> dict[str, Any]:
        """The first entries of a board, as the API answers them."""
        path = f"/leaderboards/{board}?limit={limit}"
        answer: dict[str, Any] = await self.call("GET", path)
        return answer

    async def place(self, board: str = "all_time", *, radius: int = 5) -> dict[str, Any]:
        """One's own place on a board, with neighbours, as the API answers it."""
        answer: dict[str, Any] = await self.call(
            "GET", f"/leaderboards/{board}/players/me?radius={radius}"
        )
        return answer

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
        if authorized and self.access_token:
            await self._renew()
            sent["Authorization"] = f"Bearer {self.access_token}"
        if self._session is None:
            raise RuntimeError("use `async with Client(…) as client`")
        async with self._session.request(
            method, self._base + path, json=body, headers=sent
        ) as response:
            if response.status >= 400:
                is_problem = response.content_type == "application/problem+json"
                problem = await response.json() if is_problem else {}
                raise ApiError(response.status, problem)
            return await response.json() if response.status != 204 else None

    async def _redeem(
        self, path: str, action: Action, body: Mapping[str, Any], idempotency_key: str | None
    ) -> Award:
        headers = {"X-Action-Token": action.token}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return Award.parse(await self.call("POST", path, body, headers=headers))

    def _proof(
        self,
        action: Action,
        completion_time_ms: int,
        evidence: Any,
        timestamp: str | None = None,
    ) -> tuple[dict[str, Any], str]:
        timestamp = timestamp or _timestamp(action)
        proof = {
            "completionTime": completion_time_ms,
            "checksum": signing.checksum(
                action,
                user_id=self.user_id,
                completion_time_ms=completion_time_ms,
                timestamp=timestamp,
                evidence=evidence,
            ),
        }
        if evidence is not None:
            proof["evidence"] = evidence
        return proof, timestamp

    async def _renew(self) -> None:
        async with self._renewing:
            if self._refresh_token and time.monotonic() > self._renew_at:
                body = {"refreshToken": self._refresh_token}
                self._log_in(await self.call("POST", "/auth/refresh", body, authorized=False))

    def _log_in(self, body: Mapping[str, Any]) -> None:
        self.user_id, self.username = body["userId"], body["username"]
        self.access_token, self._refresh_token = body["accessToken"], body["refreshToken"]
        self._renew_at = time.monotonic() + body["expiresIn"] - RENEW_BEFORE_S


def _timestamp(action: Action) -> str:
    """The present moment by the server's clock."""
    now = datetime.fromtimestamp(time.time() + action.clock_ahead_s, UTC)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
