"""Equal scores rank by who came first, wherever one looks, as high as scores go."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from scoreboard_client import ApiError, Client, Live
from tests import books
from tests.people import address, new_type, newcomer
from tests.suite import Suite
from tests.watching import watching

SCORE_MAX = 2**53 - 1
TIED = 3  # few enough for all who are tied in these tests to fit into the window


@pytest.fixture
async def players(unlimited: Suite) -> AsyncIterator[list[Client]]:
    """In an order that has nothing to do with that of their ids."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(newcomer(unlimited)) for _ in range(TIED)]
        yield random.sample(found, TIED)


async def test_equal_scores_rank_by_who_came_first(unlimited: Suite, players: list[Client]) -> None:
    name = await new_type(unlimited, points=500)
    for player in players:
        await award(player, name)

    await expect_order(unlimited, [player.user_id for player in players], score=500)


async def test_a_player_who_is_caught_up_with_stays_ahead(
    unlimited: Suite, players: list[Client]
) -> None:
    large, small = await new_type(unlimited, points=600), await new_type(unlimited, points=300)
    # All began earlier than the first of them finished, and the last to begin is the first.
    for player in players[1:]:
        await award(player, small)
    await award(players[0], large)
    for player in players[1:]:
        await award(player, small)

    await expect_order(unlimited, [player.user_id for player in players], score=600)


async def test_equal_scores_reached_at_the_same_time_rank_alike_everywhere(
    unlimited: Suite, players: list[Client]
) -> None:
    name = await new_type(unlimited, points=700)
    await asyncio.gather(*(award(player, name) for player in players))

    rows = await books.ledger(unlimited, [player.user_id for player in players])
    await expect_order(unlimited, [row.user_id for row in rows], score=700)


async def test_ties_are_exact_at_the_highest_score_there_is(
    unlimited: Suite, players: list[Client]
) -> None:
    # No player can be brought there by awards, so they begin ten points below.
    await unlimited.sql(
        """
        INSERT INTO scores.players (user_id, username, name_version, total)
        SELECT id, name, 1, $3 FROM unnest($1::uuid[], $2::text[]) AS p(id, name)
        """,
        [player.user_id for player in players],
        [player.username for player in players],
        SCORE_MAX - 10,
    )
    name = await new_type(unlimited, points=10)
    for player in players:
        assert await award(player, name) == SCORE_MAX
    with pytest.raises(ApiError, match="SCORE_OUT_OF_RANGE"):
        await award(players[-1], name)

    await expect_order(unlimited, [player.user_id for player in players], score=SCORE_MAX)


async def award(player: Client, action_type: str) -> int:
    """The player's score after one more play."""
    action = await player.request_action(action_type)
    return (await player.complete(action, completion_time_ms=0)).new_score


async def expect_order(suite: Suite, users: Sequence[str], *, score: int) -> None:
    """These players have that score, and stand in that order, side by side, everywhere."""
    expected = [(user, score) for user in users]
    async with Client(suite.url, headers=address()) as visitor:
        top = (await visitor.leaderboard(limit=100))["entries"]
        places = [
            await visitor.call("GET", f"/leaderboards/all_time/players/{user}") for user in users
        ]
    assert held(top, users) == expected
    first = places[0]["rank"]
    assert [(p["rank"], p["score"]) for p in places] == [
        (first + place, score) for place in range(len(users))
    ]
    async with watching(Live(suite.url, headers=address())) as watcher:
        await watcher.board(lambda board: held(board.entries, users) == expected)
    everybody = (await books.boards_in_postgres(suite))["all_time"]
    assert everybody[first - 1 : first - 1 + len(users)] == expected
    assert await books.boards_agree(suite)


def held(entries: list[dict[str, Any]], users: Sequence[str]) -> list[tuple[str, int]]:
    """The rows of these players, in their order."""
    return [(e["userId"], e["score"]) for e in entries if e["userId"] in users]
