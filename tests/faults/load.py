"""Players who play on and on, repeat what fails for a while, and note what they were promised;
and whether the ledger holds just that."""

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
from tests import books
from tests.suite import Suite

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
    play_s: float = PAUSE_S  # what a play takes; so that most players have a token in hand
    awards: list[Award] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)  # of those that were never returned
    tried_again_after: Counter[str] = field(default_factory=Counter)
    ending: bool = False

    async def play(self, player: Client) -> None:
        """Plays on and on, and finishes what is begun. Raises what trying again cannot mend."""
        while not self.ending:
            request = partial(player.request_action, random.choice(self.action_types))
            action = await self._completed(request)
            await asyncio.sleep(self.play_s)
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


async def expect_exact(suite: Suite, load: Load, players: Sequence[Client]) -> None:
    """The ledger holds what was returned and what was promised, once each, and nothing else."""
    users = [player.user_id for player in players]
    await eventually(partial(published, suite), timeout_s=GIVE_UP_S)
    rows = await books.ledger(suite, users)
    print(f"\n{len(load.awards)} awards answered, {len(load.promises)} promised and not answered")
    print(f"{len(rows)} rows in the ledger; tried again after {dict(load.tried_again_after)}")
    by_action = {row.action_id: row for row in rows}
    kept = [by_action.get(promise.action_id) for promise in load.promises]
    assert [row and (row.user_id, row.score_increment) for row in kept] == [
        (promise.user_id, promise.points) for promise in load.promises
    ]
    expected = [*load.awards, *filter(None, kept)]
    assert sorted(map(books.entry, rows)) == sorted(map(books.entry, expected))
    assert books.broken_chains(rows) == []
    assert await books.wrong_totals(suite, users) == []
    await eventually(partial(books.boards_agree, suite), timeout_s=GIVE_UP_S)
    await eventually(partial(settled, suite, rows), timeout_s=GIVE_UP_S)
    for player in players:
        own = [row for row in kept if row and row.user_id == player.user_id]
        await expect_receipts(player, own)


async def published(suite: Suite) -> bool:
    """Whether nothing waits for Postgres any more, and everything was published."""
    await books.expect_published(suite)
    return True


async def settled(suite: Suite, rows: Sequence[Award]) -> bool:
    """Whether every action that was awarded says so."""
    statement = """
        SELECT count(*) FROM actions.actions
        WHERE action_id = ANY ($1::uuid[]) AND state <> 'awarded'
    """
    ((left,),) = await suite.sql(statement, [row.action_id for row in rows])
    return bool(left == 0)


async def expect_receipts(player: Client, rows: Sequence[Award]) -> None:
    """The player gets the receipts of what was promised, and sees the actions awarded."""
    for row in rows:
        receipt = await player.receipt(row.action_id)
        assert books.entry(receipt) == books.entry(row)
        assert (await player.call("GET", f"/actions/{row.action_id}"))["state"] == "awarded"
