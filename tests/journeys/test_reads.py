"""Reads of boards through the public API alone: never back, nothing sent twice, one truth."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from chassis.testing import eventually
from scoreboard_client import ApiError, Award, Client
from tests.journeys import shapes
from tests.people import address, new_type, newcomer
from tests.suite import Suite

BOARD = "/api/v1/leaderboards/all_time"


@pytest.fixture
async def ada(unlimited: Suite) -> AsyncIterator[Client]:
    async with newcomer(unlimited, kind=shapes.Exacting) as client:
        yield client


@pytest.fixture
async def quick(unlimited: Suite) -> str:
    """The name of a type that takes no time to play, worth a place among the first hundred."""
    return await new_type(unlimited, points=10, max_open=100)


async def awarded(player: Client, action_type: str) -> Award:
    return await player.complete(await player.request_action(action_type), completion_time_ms=0)


async def test_on_one_connection_an_award_is_in_the_very_next_read(ada: Client, quick: str) -> None:
    # One call after the other: the client keeps its one connection.
    for _ in range(20):
        award = await awarded(ada, quick)
        top = await ada.leaderboard(limit=100)
        shown = {entry["userId"]: entry["score"] for entry in top["entries"]}
        assert shown[ada.user_id] == award.new_score
        assert (await ada.place())["score"] == award.new_score


async def test_every_read_shows_one_truth(ada: Client, quick: str) -> None:
    award = await awarded(ada, quick)

    place = await ada.place()
    body = {"userIds": [ada.user_id]}
    friends = await ada.call("POST", "/leaderboards/all_time/ranks", body)
    score = place["score"]

    assert score == award.new_score
    assert (friends["entries"][0]["rank"], friends["entries"][0]["score"]) == (award.rank, score)
    assert place["rank"] == award.rank
    # Who reaches it now comes behind those who have it; a point more is ahead of them.
    assert await ada.would_be(score) > place["rank"]
    assert await ada.would_be(score + 1) <= place["rank"]
    assert await ada.would_be(2**53 - 1) == 1


async def test_pages_show_every_player_once_while_others_write(
    unlimited: Suite, ada: Client, quick: str
) -> None:
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(newcomer(unlimited)) for _ in range(5)]
        for player in crowd:
            await awarded(player, quick)
        seen: list[str] = []
        async for page in ada.pages(limit=2):
            seen += [entry["userId"] for entry in page["entries"]]
            # A player who was shown rises, and a new one is at the end of the rest.
            await awarded(crowd[0], quick)

    assert len(seen) == len(set(seen))
    assert {player.user_id for player in crowd[1:]} <= set(seen)


async def test_who_has_the_top_already_gets_it_again_when_it_changed(
    unlimited: Suite, ada: Client, quick: str
) -> None:
    await awarded(ada, quick)
    tags: list[str] = []

    async def read(tag: str = "") -> tuple[int, dict[str, Any]]:
        """On a connection of its own, so that nothing but the tag speaks for the reader."""
        headers = address() | ({"If-None-Match": tag} if tag else {})
        async with (
            aiohttp.ClientSession(unlimited.url, headers=headers) as session,
            session.get(f"{BOARD}?limit=100") as answer,
        ):
            tags.append(answer.headers["ETag"])
            return answer.status, await answer.json() if answer.status == 200 else {}

    async def unchanged() -> bool:
        return (await read(tags[-1]))[0] == 304

    await read()
    await eventually(unchanged)
    for _ in range(5):
        await awarded(ada, quick)
        status, _ = await read(tags[-1])
        while status == 304:  # until what is cached for strangers has the award
            await asyncio.sleep(0.05)
            status, _ = await read(tags[-1])
    versions = [int(tag.strip('"').partition("-")[0]) for tag in tags]
    assert versions == sorted(versions)


async def test_what_is_no_board_or_period_is_not_there(ada: Client) -> None:
    for path, code in (
        ("/leaderboards/nothing", "BOARD_NOT_FOUND"),
        ("/leaderboards/nothing/would-be?score=1", "BOARD_NOT_FOUND"),
        ("/leaderboards/daily?period=19990101T000000Z", "PERIOD_NOT_FOUND"),
        ("/leaderboards/daily/players/me", "NOT_RANKED"),
    ):
        with pytest.raises(ApiError) as refused:
            await ada.call("GET", path)
        assert (refused.value.status, refused.value.code) == (404, code)
