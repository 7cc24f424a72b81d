"""Tests of what goes on while Postgres is unavailable."""

import asyncio

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Unavailable
from chassis.testing import Certificates
from services.actions.tests.players import new_user
from services.actions.tests.serving import Actions, cut_off_from


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


async def test_what_a_formula_makes_of_a_proof_needs_no_postgres(
    actions: Actions, database: dict[str, str], certificates: Certificates, type_name: str
) -> None:
    await actions.create_type(
        type_name, points=0, formula="evidence_points", points_min=1, points_max=9, max_open=9
    )
    play = await actions.issue(new_user(), type_name)
    async with cut_off_from(database, certificates) as cut_off:
        result = await cut_off.verify(play, play.prove(completion_ms=0, evidence=b'{"points":7}'))
        lacking = await cut_off.verify(play, play.prove(completion_ms=0))

    assert (result.failure.code, result.points) == ("", 7)
    assert lacking.failure.code == "VALIDATION_FAILED"


async def test_grants_go_on_and_only_types_it_never_saw_wait(
    actions: Actions, cut_off: Actions, type_name: str
) -> None:
    await actions.create_type(type_name)

    right = await cut_off.grant()
    forbidden = await cut_off.grant(action_types=[])
    unseen = await cut_off.grant(action_type=type_name, action_types=[type_name])

    assert (right.failure.code, right.points) == ("", 50)
    assert forbidden.failure.code == "FORBIDDEN"
    assert unseen.failure.code == "DB_UNAVAILABLE"


async def test_a_closed_action_is_reported_again_once_postgres_is_back(
    actions: Actions, cut_off: Actions
) -> None:
    play = await actions.issue(new_user())
    await actions.settle(play, awarded=False)
    with clock.ahead(6):
        meanwhile = await cut_off.verify(play, play.update())
        afterwards = await actions.verify(play, play.update())

    assert meanwhile.failure.code == ""
    assert afterwards.failure.code == "ACTION_CLOSED"


async def test_a_type_it_never_saw_is_not_judged(
    actions: Actions, cut_off: Actions, type_name: str
) -> None:
    await actions.create_type(type_name)
    play = await actions.issue(new_user(), type_name)

    result = await cut_off.verify(play, play.update(completion_ms=0))

    assert result.failure.code == "DB_UNAVAILABLE"
    assert not result.closes


async def test_what_needs_postgres_is_refused_while_it_is_unavailable(
    actions: Actions, cut_off: Actions
) -> None:
    play = await actions.issue(new_user())

    for call in (
        cut_off.results(new_user(), "WIN_GAME"),
        cut_off.complete(play, play.completion()),
        cut_off.settle(play, awarded=True),
        cut_off.state(play),
        cut_off.create_type("NEVER"),
    ):
        with pytest.raises(Unavailable) as refused:
            await call
        assert refused.value.code == "DB_UNAVAILABLE"


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
    assert result.sealed.action_id == play.issued.action_id
    assert took_s < 2
