"""Many redemptions at once: a token counts once, and no award goes missing between others."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest

from chassis.testing import eventually
from scoreboard_client import Action, ApiError, Award, Client
from tests import books
from tests.people import PASSWORD, address, new_type, newcomer
from tests.suite import Suite

COPIES = 200
PLAYERS, AWARDS_EACH, PLAYS = 10, 100, 30
TIMEOUT_S = 60.0  # for one of very many requests at once
T = TypeVar("T")


@pytest.fixture
async def players(unlimited: Suite) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(newcomer(unlimited, timeout_s=TIMEOUT_S))
            for _ in range(PLAYERS)
        ]


async def test_two_hundred_copies_of_a_redemption_count_once(
    unlimited: Suite, players: list[Client]
) -> None:
    ada = players[0]
    action = await ada.request_action(await new_type(unlimited, points=9))
    proved = await ada.verify(action, completion_time_ms=0)
    async with Client(unlimited.url, headers=address(), timeout_s=TIMEOUT_S) as elsewhere:
        await elsewhere.login(ada.username, PASSWORD)
        ways = itertools.cycle(
            way
            for client in (ada, elsewhere)
            for way in (client.update, client.increment, completed(client))
        )
        answers = await asyncio.gather(*(outcome(next(ways)(proved)) for _ in range(COPIES)))

    (award,) = [answer for answer in answers if isinstance(answer, Award)]
    refusals = Counter((a.status, a.code) for a in answers if isinstance(a, ApiError))
    assert refusals == {(400, "TOKEN_ALREADY_USED"): COPIES - 1}
    assert (award.old_score, award.new_score, award.version) == (0, 9, 1)
    (row,) = await books.ledger(unlimited, [ada.user_id])
    assert books.entry(row) == books.entry(award)
    assert await books.wrong_totals(unlimited, [ada.user_id]) == []
    assert (await ada.place())["score"] == 9


async def test_a_thousand_awards_at_once_leave_no_gap_and_one_truth(
    unlimited: Suite, players: list[Client]
) -> None:
    users = [player.user_id for player in players]
    name = await new_type(unlimited, points=1, max_open=AWARDS_EACH)
    turns = [player for player in players for _ in range(AWARDS_EACH)]
    actions = await asyncio.gather(*(player.request_action(name) for player in turns))
    awards = await asyncio.gather(
        *(
            player.complete(action, completion_time_ms=0)
            for player, action in zip(turns, actions, strict=True)
        )
    )

    rows = await books.ledger(unlimited, users)
    assert len(rows) == PLAYERS * AWARDS_EACH
    assert sorted(map(books.entry, awards)) == sorted(map(books.entry, rows))
    assert books.broken_chains(rows) == []
    assert {row.version for row in rows} == set(range(1, AWARDS_EACH + 1))
    assert await books.wrong_totals(unlimited, users) == []
    assert {(await player.place())["score"] for player in players} == {AWARDS_EACH}
    await eventually(lambda: books.boards_agree(unlimited))


async def test_giving_up_and_redeeming_at_once_never_both_happen(
    unlimited: Suite, players: list[Client]
) -> None:
    ada = players[0]
    name = await new_type(unlimited, points=1, max_open=PLAYS)
    plays = [await ada.request_action(name) for _ in range(PLAYS)]
    ways = [completed(ada), lambda action: ada.update(action, completion_time_ms=0), given_up(ada)]

    async def race(play: Action) -> list[Award | ApiError | None]:
        return await asyncio.gather(*(outcome(way(play)) for way in ways * 3))

    raced = await asyncio.gather(*map(race, plays))

    counts: Counter[str] = Counter()
    for play, answers in zip(plays, raced, strict=True):
        awards = [answer for answer in answers if isinstance(answer, Award)]
        refusals = {answer.code for answer in answers if isinstance(answer, ApiError)}
        state = (await ada.call("GET", f"/actions/{play.action_id}"))["state"]
        if awards:
            assert (len(awards), answers.count(None)) == (1, 0)
            assert refusals == {"TOKEN_ALREADY_USED", "ACTION_AWARDED"}
        else:
            assert (answers.count(None), refusals, state) == (3, {"ACTION_CLOSED"}, "given_up")
        counts["awarded" if awards else "given up"] += 1
    assert len(await books.ledger(unlimited, [ada.user_id])) == counts["awarded"]
    assert await books.wrong_totals(unlimited, [ada.user_id]) == []
    assert await ada.request_action(name)  # every slot is free
    print(f"\n{dict(counts)}")


def given_up(client: Client) -> Callable[[Action], Awaitable[None]]:
    return lambda action: client.give_up(action.action_id)


def completed(client: Client) -> Callable[[Action], Awaitable[Award]]:
    """Redemption by a proof and a token in one call."""
    return lambda action: client.complete(action, completion_time_ms=0)


async def outcome(call: Awaitable[T]) -> T | ApiError:
    try:
        return await call
    except ApiError as refusal:
        return refusal
