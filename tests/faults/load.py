"""Players who play on and on, repeat what fails for a while, and note what they were promised."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp

from chassis.testing import eventually
from scoreboard_client import Action, ApiError, Award, Client, checksum

REQUEST_S = 6.0  # longer than the gateway takes to say that it took too long
GIVE_UP_S = 30.0
PAUSE_S = 0.1
QUEUED = "QUEUED_FOR_REPLAY"
_REPEATS_AFTER_PROMISE_MAX = 4  # how often an award that is promised is requested again

Request = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Promise:
    """An award that was not returned but will be applied, by the server's own word."""

    action_id: str
    user_id: str
    points: int | None


@dataclass
class Load:
    """Plays of these types, until it is cancelled, and what they got."""

    action_types: Sequence[str]
    awards: list[Award] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)  # of those that were never returned
    tried_again_after: Counter[str] = field(default_factory=Counter)
    ending: bool = False

    async def play(self, player: Client) -> None:
        """Plays on and on, and finishes what is begun. Raises what trying again cannot mend."""
        while not self.ending:
            request = partial(player.request_action, random.choice(self.action_types))
            action = await self._completed(request)
            await asyncio.sleep(PAUSE_S)  # the play; so that most have a token in hand
            await self._redeem(player, action)

    async def grown(self, by: int) -> None:
        """Returns when so many more awards were returned or promised."""
        wanted = self.accepted + by

        async def enough() -> bool:
            return self.accepted >= wanted

        await eventually(enough, timeout_s=GIVE_UP_S)

    async def refused(self, code: str) -> None:
        """Returns when one more request has been refused with that code."""
        before = self.tried_again_after[code]

        async def more() -> bool:
            return self.tried_again_after[code] > before

        await eventually(more, timeout_s=GIVE_UP_S)

    @property
    def accepted(self) -> int:
        return len(self.awards) + len(self.promises)

    async def _redeem(self, player: Client, action: Action) -> None:
        headers = {"X-Action-Token": action.token, "Idempotency-Key": secrets.token_hex(8)}
        redeem = partial(
            player.call, "POST", "/scores/increment", claim(player, action), headers=headers
        )
        more = random.randrange(_REPEATS_AFTER_PROMISE_MAX + 1)
        answer = await self._completed(redeem, again_after_promise=more)
        if answer is None:
            self.promises.append(Promise(action.action_id, player.user_id, action.score_increment))
        else:
            self.awards.append(Award.parse(answer))

    async def _completed(self, request: Request, *, again_after_promise: int = 0) -> Any:
        """What a request returns, the very same one again after what passes by itself.

        None where it was promised, and so many tries more brought nothing else.
        """
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                try:
                    return await request()
                except ApiError as refusal:
                    if refusal.status not in (503, 504) and refusal.code != "REQUEST_IN_PROGRESS":
                        raise
                    self.tried_again_after[refusal.code] += 1
                    if refusal.code == QUEUED:
                        if not again_after_promise:
                            return None
                        again_after_promise -= 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.tried_again_after[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def playing(load: Load, players: Sequence[Client]) -> AsyncIterator[None]:
    """Within it all of them play; at its end every play has come to its own."""
    async with asyncio.TaskGroup() as group:
        for player in players:
            group.create_task(load.play(player))
        yield
        load.ending = True


def claim(player: Client, action: Action) -> dict[str, Any]:
    """A redemption's body, made once, so that a second try is the same request."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    proof = checksum(action, user_id=player.user_id, completion_time_ms=0, timestamp=timestamp)
    return {"timestamp": timestamp, "proof": {"completionTime": 0, "checksum": proof}}
