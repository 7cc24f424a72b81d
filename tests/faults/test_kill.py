"""Every process is killed under load and comes back: no award is lost, and none is doubled."""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from signal import SIGKILL
from typing import Any

import aiohttp
import pytest

from chassis.testing import eventually
from local import probe
from scoreboard_client import Action, ApiError, Award, Client, Live, checksum
from tests import books
from tests.people import address, new_type, newcomer
from tests.suite import UNITS, Suite, started
from tests.watching import watching

CLIENTS = 16
AWARDS_BETWEEN = 50  # two deaths, so that each comes under load
REQUEST_S = 3.0
GIVE_UP_S = 30.0
PAUSE_S = 0.03

Request = Callable[[], Awaitable[Any]]


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that nobody else needs."""
    with started(tmp_path_factory.mktemp("mortal"), limits="off") as ours:
        yield ours


@dataclass
class Load:
    """Players who play until they are told to end, and what they were answered."""

    action_type: str
    awards: list[Award] = field(default_factory=list)
    tried_again_after: Counter[str] = field(default_factory=Counter)
    ending: bool = False

    async def play(self, player: Client) -> None:
        """Plays on and on, and finishes what is begun. Raises what trying again cannot mend."""
        while not self.ending:
            ask = partial(player.request_action, self.action_type)
            action: Action = await self._answered(ask)
            body = claim(player, action)
            headers = {"X-Action-Token": action.token, "Idempotency-Key": secrets.token_hex(8)}
            redeem = partial(player.call, "POST", "/scores/increment", body, headers=headers)
            self.awards.append(Award.parse(await self._answered(redeem)))
            await asyncio.sleep(PAUSE_S)

    async def grown(self, by: int) -> None:
        """Returns when so many more awards were answered."""
        wanted = len(self.awards) + by

        async def enough() -> bool:
            return len(self.awards) >= wanted

        await eventually(enough, timeout_s=GIVE_UP_S)

    async def _answered(self, request: Request) -> Any:
        """What a request is answered, the very same one again after what passes by itself."""
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                try:
                    return await request()
                except ApiError as refusal:
                    if refusal.status not in (503, 504) and refusal.code != "REQUEST_IN_PROGRESS":
                        raise
                    self.tried_again_after[refusal.code] += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.tried_again_after[type(error).__name__] += 1
                await asyncio.sleep(PAUSE_S)


async def test_whoever_dies_under_load_takes_no_award_along(mortal: Suite) -> None:
    load = Load(await new_type(mortal, points=1, max_open=1_000))
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(watching(Live(mortal.url, headers=address())))
        people = [newcomer(mortal, timeout_s=REQUEST_S) for _ in range(CLIENTS)]
        players = [await stack.enter_async_context(person) for person in people]
        async with playing(load, players):
            for unit in UNITS:
                await load.grown(AWARDS_BETWEEN)
                print(f"\n{unit} was away for {await killed(mortal, unit):.1f} s", end="")
            await load.grown(AWARDS_BETWEEN)

        rows = await books.ledger(mortal)
        print(f"\n{len(load.awards)} awards answered, {len(rows)} in the ledger")
        print(f"tried again after {dict(load.tried_again_after)}")
        assert sorted(map(books.entry, load.awards)) == sorted(map(books.entry, rows))
        assert len({row.action_id for row in rows}) == len(rows)
        assert books.broken_chains(rows) == []
        assert await books.wrong_totals(mortal, [player.user_id for player in players]) == []
        await eventually(partial(books.boards_agree, mortal), timeout_s=GIVE_UP_S)
        top = (await players[0].leaderboard(limit=10))["entries"]
        expected = [(entry["userId"], entry["rank"], entry["score"]) for entry in top]
        await watcher.board(
            lambda board: [(e["userId"], e["rank"], e["score"]) for e in board.entries] == expected
        )
        await expect_settled(mortal, load.awards, players)


@asynccontextmanager
async def playing(load: Load, players: Sequence[Client]) -> AsyncIterator[None]:
    """Within it all of them play; at its end every play has come to its own."""
    async with asyncio.TaskGroup() as group:
        for player in players:
            group.create_task(load.play(player))
        yield
        load.ending = True


async def expect_settled(suite: Suite, awards: list[Award], players: Sequence[Client]) -> None:
    """Every action that was awarded says so, to the player whose it was."""

    async def none_left() -> bool:
        statement = """
            SELECT count(*) FROM actions.actions
            WHERE action_id = ANY ($1::uuid[]) AND state <> 'awarded'
        """
        ((left,),) = await suite.sql(statement, [award.action_id for award in awards])
        return bool(left == 0)

    await eventually(none_left, timeout_s=GIVE_UP_S)
    states = await asyncio.gather(*(own_states(player, awards) for player in players))
    assert sum(states, Counter()) == {"awarded": len(awards)}


async def own_states(player: Client, awards: list[Award]) -> Counter[str]:
    """How many of the player's actions are in which state."""
    states: Counter[str] = Counter()
    for award in awards:
        if award.user_id == player.user_id:
            action = await player.call("GET", f"/actions/{award.action_id}")
            states[action["state"]] += 1
    return states


async def killed(suite: Suite, unit: str) -> float:
    """Kills a process; answers after how many seconds the one that follows it was ready."""
    since = time.monotonic()
    pid = suite.processes()[unit]["pid"]
    os.kill(pid, SIGKILL)

    async def back() -> bool:
        now = suite.processes().get(unit)
        if now is None or now["pid"] == pid:
            return False
        url = f"http://127.0.0.1:{now['ops_port']}/readyz"
        return await asyncio.to_thread(probe.status, url) == 200

    await eventually(back, timeout_s=GIVE_UP_S, pause_s=0.1)
    return time.monotonic() - since


def claim(player: Client, action: Action) -> dict[str, Any]:
    """A redemption's body, made once, so that a second try is the same request."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    proof = checksum(action, user_id=player.user_id, completion_time_ms=0, timestamp=timestamp)
    return {"timestamp": timestamp, "proof": {"completionTime": 0, "checksum": proof}}
