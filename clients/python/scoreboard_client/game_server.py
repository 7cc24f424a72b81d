"""A game server's side: it decides what a player has earned, and says so."""

import base64
import secrets
import time
import uuid
from collections.abc import Mapping
from urllib.parse import quote_plus

from scoreboard_client.api import Api
from scoreboard_client.model import Award


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

    async def award(
        self,
        user_id: str,
        action_type: str,
        *,
        action_id: str | None = None,
        score_increment: int | None = None,
    ) -> Award:
        """Awards a player.

        Repeated with the same `action_id` (see `new_action_id`) it returns the same award: make
        one before the first attempt where there may be a second. `score_increment` must be
        given for types whose points a formula computes.
        """
        body: dict[str, str | int] = {
            "actionId": action_id or new_action_id(),
            "userId": user_id,
            "actionType": action_type,
        }
        if score_increment is not None:
            body["scoreIncrement"] = score_increment
        return Award.parse(await self.call("POST", "/scores/award", body))

    async def _renew(self) -> None:
        answer = await self._send(
            "POST",
            "/auth/token",
            data={"grant_type": "client_credentials"},
            headers={"Authorization": self._credentials},
        )
        self._take_token(answer["access_token"], expires_in_s=answer["expires_in"])


def new_action_id() -> str:
    """A UUIDv7 for an award that is about to be made."""
    random = secrets.randbits(74)
    value = time.time_ns() // 1_000_000 << 80 | 7 << 76 | (random >> 62) << 64
    return str(uuid.UUID(int=value | 2 << 62 | random & (1 << 62) - 1))
