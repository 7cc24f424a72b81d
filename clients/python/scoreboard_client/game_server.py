"""A game server's side: it decides what a player has earned, and says so."""

import asyncio
import base64
import secrets
import time
import uuid
from collections.abc import Mapping
from urllib.parse import quote_plus

from scoreboard_client.api import Api
from scoreboard_client.model import Award

RENEW_BEFORE_S = 30


class GameServer(Api):
    """Awards players of a scoreboard at `base_url`, by the credentials an operator made."""

    def __init__(
        self,
        base_url: str,
        client_id: str,
        client_secret: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 15.0,
    ) -> None:
        super().__init__(base_url, headers=headers, timeout_s=timeout_s)
        plain = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        self._credentials = f"Basic {base64.b64encode(plain.encode()).decode()}"
        self._access_token = ""
        self._renew_at = 0.0  # of the monotonic clock
        self._renewing = asyncio.Lock()

    async def award(
        self,
        user_id: str,
        action_type: str,
        *,
        action_id: str | None = None,
        score_increment: int | None = None,
    ) -> Award:
        """Awards a player.

        Asked again with the same `action_id` (see `new_action_id`) it answers the same award:
        make one before the first attempt where there may be a second. `score_increment` must
        be given for types whose points a formula computes.
        """
        body = {
            "actionId": action_id or new_action_id(),
            "userId": user_id,
            "actionType": action_type,
        }
        stated = {} if score_increment is None else {"scoreIncrement": score_increment}
        return Award.parse(await self.call("POST", "/scores/award", {**body, **stated}))

    async def _token(self) -> str:
        async with self._renewing:
            if time.monotonic() >= self._renew_at:
                answer = await self._send(
                    "POST",
                    "/auth/token",
                    data={"grant_type": "client_credentials"},
                    headers={"Authorization": self._credentials},
                )
                self._access_token = answer["access_token"]
                self._renew_at = time.monotonic() + answer["expires_in"] - RENEW_BEFORE_S
        return self._access_token


def new_action_id() -> str:
    """A UUIDv7 for an award that is about to be made."""
    random = secrets.randbits(74)
    value = time.time_ns() // 1_000_000 << 80 | 7 << 76 | (random >> 62) << 64
    return str(uuid.UUID(int=value | 2 << 62 | random & (1 << 62) - 1))
