"""Requests under an Idempotency-Key: the same again gets the same answer, anything else refused."""

import asyncio
import secrets
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chassis.testing import eventually
from scoreboard_client import Action, Award, Client, client_signature
from tests.faults.load import claim
from tests.people import action_type, administrator, new_type, newcomer
from tests.suite import Suite
from tests.wire import wired

COPIES = 8
REPLAYED = "Idempotency-Replayed"
REUSED = (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize("route", ["/scores/increment", "/scores/update", "/actions/complete"])
async def test_the_same_again_is_repeated_byte_for_byte(anywhere: Suite, route: str) -> None:
    name = await new_type(anywhere, points=3, max_open=10)
    async with newcomer(anywhere) as ada, wired(anywhere, ada.access_token) as wire:
        action, another = [await ada.request_action(name) for _ in range(2)]
        body, headers = redemption(route, ada, action)
        key = secrets.token_hex(8)

        first = await wire.call("POST", route, body, headers=headers | named(key))
        assert first.status == 200, first.body
        assert REPLAYED not in first.headers
        await eventually(lambda: has_receipt(ada, Award.parse(first.json)))
        for spelled in (key, f'"{key}"'):
            again = await wire.call("POST", route, body, headers=headers | named(spelled))
            assert (again.status, again.body) == (first.status, first.body)
            assert again.headers[REPLAYED] == "true"

        # The same key with another play: refused before anything else, the play untouched.
        body, headers = redemption(route, ada, another)
        assert (
            await wire.call("POST", route, body, headers=headers | named(key))
        ).refusal == REUSED
        fresh = await wire.call("POST", route, body, headers=headers | named(key + "2"))
        assert (fresh.status, fresh.json["newScore"]) == (200, 6)
        assert REPLAYED not in fresh.headers
        # And without a key a repeat is a second redemption.
        used = await wire.call("POST", route, body, headers=headers)
        assert used.refusal == (400, "TOKEN_ALREADY_USED")


async def test_a_completion_that_is_sent_again_says_so(anywhere: Suite) -> None:
    name = await new_type(anywhere, points=3)
    async with newcomer(anywhere) as ada, wired(anywhere, ada.access_token) as wire:
        action = await ada.request_action(name)
        body = claim(ada, action) | {"actionId": action.action_id, "actionType": name}
        first, *again = [await wire.call("POST", "/actions/complete", body) for _ in range(3)]

    assert [answer.status for answer in (first, *again)] == [200] * 3
    assert len({answer.json["actionToken"] for answer in (first, *again)}) == 3
    assert REPLAYED not in first.headers
    assert {answer.headers.get(REPLAYED) for answer in again} == {"true"}


async def test_a_key_is_its_players_own(anywhere: Suite) -> None:
    name, key = await new_type(anywhere, points=3), secrets.token_hex(8)
    route = "/scores/increment"
    for _ in range(2):
        async with newcomer(anywhere) as player, wired(anywhere, player.access_token) as wire:
            body, headers = redemption(route, player, await player.request_action(name))
            answer = await wire.call("POST", route, body, headers=headers | named(key))
            assert (answer.status, answer.json["newScore"]) == (200, 3)


async def test_of_many_at_once_under_one_key_one_counts(anywhere: Suite) -> None:
    name, key = await new_type(anywhere, points=3), secrets.token_hex(8)
    route = "/scores/increment"
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(newcomer(anywhere))
        wires = [
            await stack.enter_async_context(wired(anywhere, ada.access_token))
            for _ in range(COPIES)
        ]
        body, headers = redemption(route, ada, await ada.request_action(name))
        answers = await asyncio.gather(
            *(wire.call("POST", route, body, headers=headers | named(key)) for wire in wires)
        )

        # Those who came while the first was running get that refusal, and no other.
        refused = [answer.refusal for answer in answers if answer.status != 200]
        assert set(refused) <= {(409, "REQUEST_IN_PROGRESS")}
        assert len(refused) < COPIES
        assert {a.json["newScore"] for a in answers if a.status == 200} == {3}
        assert [a.status == 200 and REPLAYED not in a.headers for a in answers].count(True) == 1
        rows = (await ada.call("GET", "/me/scores"))["rows"]
        assert [(row["kind"], row["newScore"]) for row in rows] == [("award", 3)]
        print(f"\n{Counter(answer.status for answer in answers)}")


async def test_an_administrators_call_is_done_once_too(anywhere: Suite) -> None:
    wanted, key = action_type(points=3), secrets.token_hex(8)
    path = "/admin/action-types"
    async with administrator(anywhere) as admin, wired(anywhere, admin.access_token) as wire:
        first = await wire.call("POST", path, wanted, headers=named(key))
        again = await wire.call("POST", path, wanted, headers=named(key))
        other = await wire.call("POST", path, wanted | {"points": 4}, headers=named(key))
        without_key = await wire.call("POST", path, wanted)

    assert first.status == 201
    assert (again.status, again.body) == (first.status, first.body)
    assert [REPLAYED in answer.headers for answer in (first, again, without_key)] == [
        False,
        True,
        False,
    ]
    assert other.refusal == REUSED
    assert without_key.status == 409


def redemption(route: str, player: Client, action: Action) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of a redemption with its proof, by that route."""
    body = claim(player, action)
    if route == "/actions/complete":
        return body | {"actionToken": action.token}, {}
    if route == "/scores/update":
        body |= {
            "userId": player.user_id,
            "actionId": action.action_id,
            "actionType": action.action_type,
            "scoreIncrement": action.score_increment,
            "clientSignature": client_signature(
                action, user_id=player.user_id, timestamp=body["timestamp"]
            ),
        }
    return body, {"X-Action-Token": action.token}


def named(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def has_receipt(player: Client, award: Award) -> bool:
    """Whether the ledger holds all of the answer, its ranks too."""
    return await player.receipt(award.action_id) == award
