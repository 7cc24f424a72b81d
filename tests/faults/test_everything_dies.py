"""Everything dies under load, in turn: no award is lost, none doubled, none made up."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace

from scoreboard_client import Client, Live
from tests import books
from tests.faults.deaths import frozen, killed, robbed
from tests.faults.load import QUEUED, REQUEST_S, Load, expect_exact, playing
from tests.journeys.game import added, expect_shown
from tests.journeys.ranking import Play, Ranking, Rules
from tests.operating import ordered
from tests.people import address, new_type, newcomer
from tests.suite import Suite
from tests.watching import Line, Watcher, watching

CLIENTS = 12
AWARDS_BETWEEN = 50  # two deaths, so that each comes under load
CUT_S = (0.05, 0.5)  # between two cuts of the line that every other client is on
BOARD, RULES = "latest", Rules(operator="latest", order="ascending", ties="dense")
WINDOW = 10  # places that the live channel shows


async def three_at_once(suite: Suite, load: Load) -> float:
    """Postgres stands still, without a sign to others; when players learn that their awards wait
    for it, Redis, where they wait, and scores, which put them there, are killed, and then it."""
    async with asyncio.TaskGroup() as group:

        async def meanwhile() -> None:
            await load.refused(QUEUED)
            group.create_task(killed(suite, "scores"))  # not back before Postgres is
            await killed(suite, "redis")

        return await frozen(suite, "postgres", meanwhile=meanwhile)


def deaths(suite: Suite, load: Load) -> Iterator[tuple[str, Awaitable[float]]]:
    """What dies, in turn, and its death. Redis dies with its data, and once without."""
    for name in ("gateway", "scores", "actions", "redis", "postgres"):
        yield name, killed(suite, name)
    yield "postgres, redis and scores at once", three_at_once(suite, load)
    yield "redis, with its data,", robbed(suite)
    for name in ("fraud", "realtime", "auth"):
        yield name, killed(suite, name)


async def test_whatever_dies_under_load_every_accepted_award_is_there_once(mortal: Suite) -> None:
    load = Load([await new_type(mortal, points=points, max_open=1_000) for points in (1, 7)])
    about = {"board": BOARD, "title": "Latest", "actionTypes": load.action_types}
    await added(mortal, about | asdict(RULES))
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(watching(Live(mortal.url, headers=address())))
        line = await stack.enter_async_context(Line(mortal.url).open())
        ways = [mortal, replace(mortal, url=line.url)] * (CLIENTS // 2)
        people = [newcomer(way, timeout_s=REQUEST_S) for way in ways]
        players = [await stack.enter_async_context(person) for person in people]
        async with playing(load, players), cutting(line):
            await load.grown(AWARDS_BETWEEN)
            for who, death in deaths(mortal, load):
                print(f"\n{who} was unavailable for {await death:.1f} s", end="")
                await load.grown(AWARDS_BETWEEN)
        await expect_exact(mortal, load, players)
        await expect_ranked(mortal, players)
        await expect_watched(mortal, players[0], watcher)
        code, said = await ordered(mortal, "scores", "audit")
        assert code == 0, said


@asynccontextmanager
async def cutting(line: Line) -> AsyncIterator[None]:
    """Within it the line is cut at random, and with it every request that is on it."""

    async def cut() -> None:
        while True:
            await asyncio.sleep(random.uniform(*CUT_S))
            line.cut()

    task = asyncio.create_task(cut())
    try:
        yield
    finally:
        task.cancel()


async def expect_ranked(suite: Suite, players: Sequence[Client]) -> None:
    """A board of other rules, which is kept in another way, shows what the ledger says too."""
    names = {player.user_id: player.username for player in players}
    rows = await books.ledger(suite, names)
    plays = [Play(r.user_id, names[r.user_id], r.score_increment, r.timestamp) for r in rows]
    await expect_shown(players[0], BOARD, Ranking(RULES, plays))


async def expect_watched(suite: Suite, player: Client, watcher: Watcher) -> None:
    """Who watched all the time sees what a reader sees, which is what Postgres holds."""
    top = await player.leaderboard(limit=WINDOW)
    expected = [(entry["userId"], entry["rank"], entry["score"]) for entry in top["entries"]]
    best = (await books.boards_in_postgres(suite))["all_time"][:WINDOW]
    assert expected == [(user, rank, score) for rank, (user, score) in enumerate(best, 1)]
    assert not top["degraded"]
    await watcher.board(
        lambda board: [(e["userId"], e["rank"], e["score"]) for e in board.entries] == expected
    )
