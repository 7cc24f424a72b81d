"""Tests of what goes on while Postgres is away."""

import asyncio

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Unavailable
from protos import actions_pb2 as pb
from services.actions.tests.players import Actions, new_user


async def test_the_seal_alone_verifies_and_refuses(actions: Actions, cut_off: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        right = await cut_off.verify(play, play.update())
        fast = await cut_off.verify(play, play.update(completion_ms=100))
        wrong = play.update()
        wrong.client_signature = "0" * 64
        forged = await cut_off.verify(play, wrong)

    assert not right.HasField("failure")
    assert right.sealed.action_id == play.issued.action_id
    assert (fast.failure.code, fast.closes) == ("SUSPICIOUS_ACTIVITY", True)
    assert (forged.failure.code, forged.closes) == ("SIGNATURE_INVALID", False)


async def test_a_type_it_never_saw_is_not_judged(
    actions: Actions, cut_off: Actions, type_name: str
) -> None:
    await actions.create_type(type_name)
    play = await actions.issue(new_user(), type_name)

    result = await cut_off.verify(play, play.update(completion_ms=0))

    assert result.failure.code == "DB_UNAVAILABLE"
    assert not result.closes


async def test_what_needs_postgres_says_that_it_is_away(actions: Actions, cut_off: Actions) -> None:
    play = await actions.issue(new_user())

    for call in (
        cut_off.results(new_user(), "WIN_GAME"),
        cut_off.complete(play, play.completion()),
        cut_off.settle(play, awarded=True),
        cut_off.state(play),
        cut_off.create_type("NEVER"),
    ):
        with pytest.raises(Unavailable) as away:
            await call
        assert away.value.code == "DB_UNAVAILABLE"


async def test_a_postgres_that_hangs_delays_verifying_by_a_second_at_most(
    actions: Actions, database: dict[str, str]
) -> None:
    play = await actions.issue(new_user())
    blocker = await asyncpg.connect(database["admin"])
    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE actions.actions IN ACCESS EXCLUSIVE MODE")
            started = asyncio.get_running_loop().time()
            with clock.ahead(6):
                result = await actions.verify(play, play.update())
            took_s = asyncio.get_running_loop().time() - started
    finally:
        await blocker.close()

    assert not result.HasField("failure")
    assert result.sealed.phase == pb.Sealed.REQUESTED
    assert took_s < 2
