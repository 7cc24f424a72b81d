"""Awards by the word of a trusted game server."""

from typing import Any

from chassis.ids import uuid7
from tests.journeys import shapes
from tests.journeys.refusals import refusal
from tests.people import action_type, administrator, game_server, newcomer
from tests.suite import Suite
from tests.wire import Reply, wired

POINTS = 40
OF_LONG_AGO = "018bcfe5-6800-7000-8000-000000000001"  # a UUIDv7 of 2023


async def test_a_game_server_awards_a_play_once_however_often_it_says_so(unlimited: Suite) -> None:
    name = await authoritative_type(unlimited)
    token = await access_token(unlimited, *await game_server(unlimited, name))
    async with newcomer(unlimited, kind=shapes.Exacting) as ada, wired(unlimited, token) as server:
        word = {"actionId": uuid7(), "userId": ada.user_id, "actionType": name}

        answer = await server.ask("POST", "/scores/award", word)

        assert answer.status == 200, answer.body
        assert shapes.misfits(answer.json, shapes.AWARD) == []
        assert (answer.json["oldScore"], answer.json["newScore"]) == (0, POINTS)
        receipt = await ada.receipt(word["actionId"])
        assert receipt.new_score == POINTS
        again = await server.ask("POST", "/scores/award", {**word})
        assert without_ranks(again) == without_ranks(answer)
        explicit = await server.ask("POST", "/scores/award", {**word, "scoreIncrement": POINTS})
        assert explicit.status in (200, 422)
        rows = (await ada.call("GET", "/me/scores"))["rows"]
        assert [(row["actionId"], row["points"]) for row in rows] == [(word["actionId"], POINTS)]
        assert (await ada.place())["score"] == POINTS


async def test_one_action_has_one_content_and_one_server(unlimited: Suite) -> None:
    name, other = await authoritative_type(unlimited), await authoritative_type(unlimited)
    first = await access_token(unlimited, *await game_server(unlimited, name, other))
    second = await access_token(unlimited, *await game_server(unlimited, name))
    async with (
        newcomer(unlimited) as ada,
        newcomer(unlimited) as bob,
        wired(unlimited, first) as server,
        wired(unlimited, second) as stranger,
    ):
        word = {"actionId": uuid7(), "userId": ada.user_id, "actionType": name}
        assert (await server.ask("POST", "/scores/award", word)).status == 200

        reused = (422, "IDEMPOTENCY_KEY_REUSED")
        for changed in ({"userId": bob.user_id}, {"actionType": other}):
            answer = await server.ask("POST", "/scores/award", word | changed)
            assert answer.refusal == reused
        assert (await stranger.ask("POST", "/scores/award", word)).refusal == reused
        assert (await bob.call("GET", "/me/scores"))["rows"] == []
        assert len((await ada.call("GET", "/me/scores"))["rows"]) == 1


async def test_who_may_award_what_is_kept_apart(unlimited: Suite) -> None:
    name, other = await authoritative_type(unlimited), await authoritative_type(unlimited)
    client_id, secret = await game_server(unlimited, name)
    token = await access_token(unlimited, client_id, secret)
    async with newcomer(unlimited) as ada, wired(unlimited, token) as server:
        word = {"actionId": uuid7(), "userId": ada.user_id, "actionType": name}

        assert await refusal(ada.request_action(name)) == (403, "ACTION_TYPE_AUTHORITATIVE")
        assert await refusal(ada.call("POST", "/scores/award", word)) == (403, "FORBIDDEN")
        for body, expected in (
            (word | {"actionType": other}, (403, "FORBIDDEN")),
            (word | {"scoreIncrement": POINTS + 1}, (403, "SCORE_MISMATCH")),
            (word | {"scoreIncrement": 1_000_000}, (422, "SCORE_OUT_OF_RANGE")),
            (word | {"actionType": "NONE_SUCH"}, (422, "ACTION_TYPE_UNKNOWN")),
            (
                word | {"actionId": OF_LONG_AGO},
                (422, "VALIDATION_FAILED"),
            ),
        ):
            assert (await server.ask("POST", "/scores/award", body)).refusal == expected
        assert (await server.ask("GET", "/me/scores")).refusal == (403, "FORBIDDEN")
        assert (await ada.call("GET", "/me/scores"))["rows"] == []
        wrong = await credentials(unlimited, client_id, "x" + secret)
        assert wrong.refusal == (401, "INVALID_CLIENT")
        assert "WWW-Authenticate" in wrong.headers


async def access_token(suite: Suite, client_id: str, secret: str) -> str:
    """What a game server gets by its credentials."""
    answer = await credentials(suite, client_id, secret)
    assert answer.status == 200, answer.body
    expected = {"access_token": str, "token_type": str, "expires_in": int, "scope": str}
    assert shapes.misfits(answer.json, expected) == []
    assert (answer.json["token_type"], answer.json["scope"]) == ("Bearer", "scores:award")
    return str(answer.json["access_token"])


async def credentials(suite: Suite, client_id: str, secret: str) -> Reply:
    async with wired(suite) as wire:
        grant = {"grant_type": "client_credentials"}
        return await wire.form("/auth/token", grant, user=client_id, secret=secret)


async def authoritative_type(suite: Suite) -> str:
    """The name of a new action type that only game servers may award."""
    wanted = action_type(points=POINTS) | {"authoritative": True}
    async with administrator(suite) as admin:
        await admin.call("POST", "/admin/action-types", wanted)
    return str(wanted["actionType"])


def without_ranks(answer: Reply) -> dict[str, Any]:
    """An award without what a repeat that is very early may not know yet."""
    early = ("rank", "newRank", "oldRank", "warnings")
    return {name: value for name, value in answer.json.items() if name not in early}
