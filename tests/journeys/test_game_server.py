"""Awards by the word of a trusted game server, through the public API alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chassis.testing import eventually
from scoreboard_client import Award, Client, GameServer, new_action_id
from tests.journeys import shapes
from tests.journeys.refusals import refusal
from tests.people import action_type, address, administrator, game_server, newcomer
from tests.suite import Suite
from tests.wire import Reply, wired

POINTS = 40
COPIES = 20
OF_LONG_AGO = "018bcfe5-6800-7000-8000-000000000001"  # a UUIDv7 of 2023
REUSED = (422, "IDEMPOTENCY_KEY_REUSED")


@asynccontextmanager
async def arena(suite: Suite, *action_types: str) -> AsyncIterator[GameServer]:
    """A game server that may award these types, made as an operator makes one."""
    client_id, secret = await game_server(suite, *action_types)
    async with GameServer(suite.url, client_id, secret, headers=address()) as server:
        yield server


@pytest.fixture
async def ada(unlimited: Suite) -> AsyncIterator[Client]:
    async with newcomer(unlimited, kind=shapes.Exacting) as client:
        yield client


@pytest.fixture
async def raid(unlimited: Suite) -> str:
    """The name of a type that only game servers award."""
    return await authoritative_type(unlimited)


async def test_a_game_server_awards_once_and_repeats_are_safe(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    other, word = await authoritative_type(unlimited), new_action_id()
    async with (
        newcomer(unlimited) as bob,
        arena(unlimited, raid, other) as server,
        arena(unlimited, raid) as stranger,
    ):
        first = await server.award(ada.user_id, raid, action_id=word)
        await eventually(lambda: has_receipt(ada, first))
        again = await server.award(ada.user_id, raid, action_id=word)
        for changed in (
            server.award(ada.user_id, raid, action_id=word, score_increment=POINTS + 1),
            server.award(ada.user_id, other, action_id=word),
            server.award(bob.user_id, raid, action_id=word),
            stranger.award(ada.user_id, raid, action_id=word),
        ):
            assert await refusal(changed) == REUSED
        more = await server.award(ada.user_id, raid)
        assert (await bob.call("GET", "/me/scores"))["rows"] == []

    assert (first.old_score, first.new_score, first.user_id) == (0, POINTS, ada.user_id)
    assert again == first
    assert more.new_score == 2 * POINTS
    assert (await ada.place())["score"] == 2 * POINTS


async def test_a_game_server_awards_its_types_to_players_and_nothing_else(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    async with arena(unlimited, raid, "NONE_SUCH") as server:
        for call, expected in (
            (server.award(ada.user_id, "WIN_GAME"), (403, "FORBIDDEN")),
            (server.award(ada.user_id, "NONE_SUCH"), (422, "ACTION_TYPE_UNKNOWN")),
            (server.award(new_action_id(), raid), (404, "PLAYER_NOT_FOUND")),
            (server.award(ada.user_id, raid, score_increment=41), (403, "SCORE_MISMATCH")),
            (server.award(ada.user_id, raid, score_increment=9**9), (422, "SCORE_OUT_OF_RANGE")),
            (server.award(ada.user_id, raid, action_id=OF_LONG_AGO), (422, "VALIDATION_FAILED")),
            (server.call("GET", "/me/scores"), (403, "FORBIDDEN")),
        ):
            assert await refusal(call) == expected
    body = {"actionId": new_action_id(), "userId": ada.user_id, "actionType": raid}
    assert await refusal(ada.call("POST", "/scores/award", body)) == (403, "FORBIDDEN")
    assert await refusal(ada.request_action(raid)) == (403, "ACTION_TYPE_AUTHORITATIVE")
    assert (await ada.call("GET", "/me/scores"))["rows"] == []


async def test_a_repeated_grant_says_that_it_is_one(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    body = {"actionId": new_action_id(), "userId": ada.user_id, "actionType": raid}
    async with arena(unlimited, raid) as server:
        await server.award(ada.user_id, raid)  # gets a token
        async with wired(unlimited, server.access_token) as wire:
            first, again = [await wire.call("POST", "/scores/award", body) for _ in range(2)]

    assert (first.status, again.status) == (200, 200)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


async def test_of_many_repeats_at_once_one_is_awarded(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    word = new_action_id()
    async with arena(unlimited, raid) as server:
        awards = await asyncio.gather(
            *(server.award(ada.user_id, raid, action_id=word) for _ in range(COPIES))
        )

    assert {award.new_score for award in awards} == {POINTS}
    assert [row["points"] async for row in ada.history()] == [POINTS]


async def test_credentials_are_changed_for_a_token_as_oauth_has_it(
    unlimited: Suite, raid: str
) -> None:
    client_id, secret = await game_server(unlimited, raid)

    answer = await credentials(unlimited, client_id, secret)

    shape = {"access_token": str, "token_type": str, "expires_in": int, "scope": str}
    assert shapes.misfits(answer.json, shape) == []
    assert (answer.json["token_type"], answer.json["scope"]) == ("Bearer", "scores:award")
    for name, word in ((client_id, f"x{secret}"), (new_action_id(), secret), ("nobody", secret)):
        wrong = await credentials(unlimited, name, word)
        assert wrong.refusal == (401, "INVALID_CLIENT")
        assert "WWW-Authenticate" in wrong.headers


async def credentials(suite: Suite, client_id: str, secret: str) -> Reply:
    """What the call for a token returns."""
    async with wired(suite) as wire:
        grant = {"grant_type": "client_credentials"}
        return await wire.form("/auth/token", grant, user=client_id, secret=secret)


async def authoritative_type(suite: Suite) -> str:
    """The name of a new action type that only game servers may award."""
    wanted = action_type(points=POINTS) | {"authoritative": True}
    async with administrator(suite) as admin:
        created = await admin.call("POST", "/admin/action-types", wanted)
    return str(created["actionType"])


async def has_receipt(player: Client, award: Award) -> bool:
    """Whether the ledger holds all of the answer, its ranks too."""
    return await player.receipt(award.action_id) == award
