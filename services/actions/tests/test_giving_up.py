"""Tests of actions that their players gave up: open no longer, and their tokens dead."""

import asyncio

import pytest

from chassis import clock
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, new_user, stamp
from services.actions.tests.serving import Actions, codes


async def given_up(actions: Actions, *plays: Play) -> None:
    ids = [play.issued.action_id for play in plays]
    await actions.scores.Settle(pb.SettleRequest(given_up=ids))


async def test_the_slot_of_an_action_that_is_given_up_is_free_at_once(actions: Actions) -> None:
    user = new_user()
    with clock.ahead(-6):
        plays = [await actions.issue(user) for _ in range(3)]
    await actions.complete(plays[0], plays[0].completion())
    await given_up(actions, *plays[:2])
    await given_up(actions, plays[0])

    assert codes(await actions.results(user, *["WIN_GAME"] * 3)) == [
        "issued",
        "issued",
        "TOO_MANY_PENDING",
    ]
    assert [await actions.state(play) for play in plays] == ["given_up", "given_up", "requested"]
    with clock.ahead(700):
        assert await actions.state(plays[0]) == "given_up"


async def test_a_request_that_waits_for_a_slot_gets_that_of_an_action_given_up(
    actions: Actions,
) -> None:
    user = new_user()
    plays = [await actions.issue(user) for _ in range(3)]
    waiting = asyncio.create_task(actions.results(user, "WIN_GAME", patient=True))
    await given_up(actions, plays[0])

    assert codes(await waiting) == ["issued"]


async def test_the_tokens_of_an_action_that_is_given_up_are_dead(actions: Actions) -> None:
    requested, completed = [await actions.issue(new_user()) for _ in range(2)]
    with clock.ahead(6):
        fresh = (await actions.complete(completed, completed.completion())).completed
        await given_up(actions, requested, completed)
        at = stamp()
        signed = pb.Claims(timestamp=at, client_signature=completed.signature(50, at))
        results: list[pb.VerifyResult | pb.CompleteResult] = [
            await actions.verify(requested, requested.update()),
            await actions.verify(requested, requested.prove()),
            await actions.verify(completed, signed, token=fresh.action_token),
            await actions.complete(requested, requested.completion()),
            await actions.complete(completed, completed.completion()),
        ]

    assert [result.failure.code for result in results] == ["ACTION_CLOSED"] * 5
    assert actions.fraud.incidents == []


async def test_an_action_that_is_given_up_while_it_is_completed_is_one_or_the_other(
    actions: Actions,
) -> None:
    plays = [await actions.issue(new_user()) for _ in range(20)]
    with clock.ahead(6):
        results, _ = await asyncio.gather(
            asyncio.gather(*(actions.complete(play, play.completion()) for play in plays)),
            asyncio.gather(*(given_up(actions, play) for play in plays)),
        )

    assert {result.failure.code for result in results} <= {"", "ACTION_CLOSED"}
    assert {await actions.state(play) for play in plays} == {"given_up"}


@pytest.mark.parametrize("awarded", [True, False])
async def test_a_settled_action_is_not_given_up(actions: Actions, *, awarded: bool) -> None:
    play = await actions.issue(new_user())
    await actions.settle(play, awarded=awarded)
    await given_up(actions, play)

    assert await actions.state(play) == ("awarded" if awarded else "refused")


async def test_an_action_that_is_given_up_is_not_refused_later(actions: Actions) -> None:
    play = await actions.issue(new_user())
    await given_up(actions, play)
    await actions.settle(play, awarded=False)

    assert await actions.state(play) == "given_up"
