"""The REST side: accounts, actions, awards, boards."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from scoreboard_client import signing
from scoreboard_client.api import Api
from scoreboard_client.model import Action, Award


class Client(Api):
    """One player's connection to a scoreboard at `base_url`."""

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 15.0
    ) -> None:
        super().__init__(base_url, headers=headers, timeout_s=timeout_s)
        self._refresh_token = ""
        self.user_id = ""
        self.username = ""

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
        proved = self._proved(action, completion_time_ms, evidence)
        body = {"actionToken": action.token, **proved}
        return Award.parse(await self.call("POST", "/actions/complete", body))

    async def verify(
        self, action: Action, *, completion_time_ms: int, evidence: Any = None
    ) -> Action:
        """Proves the play; returns the action with a fresh token, to be redeemed later."""
        proved = self._proved(action, completion_time_ms, evidence)
        stated = {"actionId": action.action_id, "actionType": action.action_type, **proved}
        body = await self.call("POST", "/actions/complete", stated)
        return replace(action, token=body["actionToken"], score_increment=body["scoreIncrement"])

    async def give_up(self, action_id: str) -> None:
        """Gives an open play up: its slot is free for another one, and it is worth nothing.

        Again does no harm; an action that was awarded is refused with ACTION_AWARDED.
        """
        await self.call("DELETE", f"/actions/{action_id}")

    async def update(
        self,
        action: Action,
        *,
        completion_time_ms: int | None = None,
        evidence: Any = None,
        idempotency_key: str | None = None,
    ) -> Award:
        """Redeems a token by `POST /scores/update`; with a proof where none was given before.

        An action whose points a formula computes must be verified first.
        """
        body: dict[str, Any] = {
            "userId": self.user_id,
            "actionId": action.action_id,
            "actionType": action.action_type,
            "scoreIncrement": action.score_increment,
            **self._signed(action),
        }
        if completion_time_ms is not None:
            body |= self._proved(action, completion_time_ms, evidence, body["timestamp"])
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
        if completion_time_ms is None:
            body = self._signed(action)
        else:
            body = self._proved(action, completion_time_ms, evidence)
        return await self._redeem("/scores/increment", action, body, idempotency_key)

    async def receipt(self, action_id: str) -> Award:
        """The award of an action as it was answered, for a client that lost the reply."""
        return Award.parse(await self.call("GET", f"/me/scores/{action_id}"))

    async def history(self) -> AsyncIterator[dict[str, Any]]:
        """One's own ledger, newest first, row by row as the API returns them."""
        async for page in self._pages("/me/scores?limit=100"):
            for row in page["rows"]:
                yield row

    async def leaderboard(
        self, board: str = "all_time", *, limit: int = 10, period: str = "current"
    ) -> dict[str, Any]:
        """The first entries of a board, as the API returns them."""
        path = f"/leaderboards/{board}?limit={limit}&period={period}"
        return dict(await self.call("GET", path))

    def pages(
        self, board: str = "all_time", *, limit: int = 100, period: str = "current"
    ) -> AsyncIterator[dict[str, Any]]:
        """A whole board, page by page, as the API returns them."""
        return self._pages(f"/leaderboards/{board}?limit={limit}&period={period}")

    async def would_be(self, score: int, board: str = "all_time") -> int:
        """The rank of a player who reached `score` on a board now."""
        return int(
            (await self.call("GET", f"/leaderboards/{board}/would-be?score={score}"))["rank"]
        )

    async def place(self, board: str = "all_time", *, radius: int = 5) -> dict[str, Any]:
        """One's own place on a board, with neighbours, as the API returns it."""
        return dict(await self.call("GET", f"/leaderboards/{board}/players/me?radius={radius}"))

    async def _pages(self, path: str) -> AsyncIterator[dict[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            page = await self.call("GET", f"{path}&cursor={cursor}" if cursor else path)
            yield page
            cursor = page["nextCursor"]

    async def _redeem(
        self, path: str, action: Action, body: Mapping[str, Any], idempotency_key: str | None
    ) -> Award:
        headers = {"X-Action-Token": action.token}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return Award.parse(await self.call("POST", path, body, headers=headers))

    def _signed(self, action: Action) -> dict[str, Any]:
        """The present moment, and the signature of an update at it."""
        at = _timestamp(action)
        signature = signing.client_signature(action, user_id=self.user_id, timestamp=at)
        return {"timestamp": at, "clientSignature": signature}

    def _proved(
        self, action: Action, completion_time_ms: int, evidence: Any, at: str | None = None
    ) -> dict[str, Any]:
        """The moment `at`, else the present one, and the proof of a play that ended at it."""
        at = at or _timestamp(action)
        checksum = signing.checksum(
            action,
            user_id=self.user_id,
            completion_time_ms=completion_time_ms,
            timestamp=at,
            evidence=evidence,
        )
        proof = {"completionTime": completion_time_ms, "checksum": checksum}
        if evidence is not None:
            proof["evidence"] = evidence
        return {"timestamp": at, "proof": proof}

    async def _renew(self) -> None:
        if self._refresh_token:
            body = {"refreshToken": self._refresh_token}
            self._log_in(await self.call("POST", "/auth/refresh", body, authorized=False))

    def _log_in(self, body: Mapping[str, Any]) -> None:
        self.user_id, self.username = body["userId"], body["username"]
        self._refresh_token = body["refreshToken"]
        self._take_token(body["accessToken"], expires_in_s=body["expiresIn"])


def _timestamp(action: Action) -> str:
    """The present moment by the server's clock."""
    now = datetime.fromtimestamp(time.time() + action.clock_ahead_s, UTC)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
