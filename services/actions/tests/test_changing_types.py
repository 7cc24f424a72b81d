"""Tests of changing an action type: what is taken over, by whom it is seen, whom it leaves be."""

import asyncio
from typing import Any

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Missing, Unprocessable
from chassis.postgres import Database
from chassis.testing import Certificates, eventually
from protos import actions_pb2 as pb
from services.actions.catalogue import Catalogue
from services.actions.store import ActionsStore
from services.actions.tests.players import new_user
from services.actions.tests.serving import Actions, open_actions


async def listed(actions: Actions, name: str) -> pb.ActionType:
    reply: pb.CatalogueReply = await actions.gateway.Catalogue(pb.CatalogueRequest())
    (found,) = (one for one in reply.types if one.action_type == name)
    return found


async def test_only_the_named_fields_are_taken_over(actions: Actions, type_name: str) -> None:
    made = await actions.create_type(type_name, daily_cap=5, max_open=2, points=7)

    changed = await actions.change_type(type_name, points=8, title="New")

    expected = pb.ActionType()
    expected.CopyFrom(made)
    expected.points, expected.title = 8, "New"
    assert changed == expected == await listed(actions, type_name)


async def test_every_field_can_be_changed_and_optional_ones_removed(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name)
    values: dict[str, Any] = {
        "title": "Other",
        "points": 0,
        "min_duration_ms": 10,
        "max_duration_ms": 20,
        "token_ttl_s": 30,
        "daily_cap": 4,
        "max_open": 5,
        "authoritative": True,
        "formula": "ratio",
        "points_min": 6,
        "points_max": 7,
    }
    assert await actions.change_type(type_name, **values) == pb.ActionType(
        action_type=type_name, **values
    )

    unset = dict.fromkeys(("daily_cap", "max_open", "formula", "points_min", "points_max"))
    changed = await actions.change_type(type_name, points=3, authoritative=False, **unset)

    assert not any(changed.HasField(name) for name in unset if name != "formula")
    assert (changed.formula, changed.points, changed.authoritative) == ("", 3, False)


async def test_nothing_named_changes_nothing(
    actions: Actions, pool: asyncpg.Pool, type_name: str, logged: list[Any]
) -> None:
    made = await actions.create_type(type_name)
    version = await pool.fetchval("SELECT version FROM actions.catalogue")

    assert await actions.change_type(type_name) == made
    assert await actions.change_type(type_name, points=made.points) == made

    assert await pool.fetchval("SELECT version FROM actions.catalogue") == version
    assert [line["event"] for line in logged] == ["action_type_created"]


@pytest.mark.parametrize("name", ["NO_SUCH_TYPE", "win", "", "A\x00B"])
async def test_a_type_that_is_not_there_is_not_found(actions: Actions, name: str) -> None:
    with pytest.raises(Missing, match="ACTION_TYPE_NOT_FOUND"):
        await actions.change_type(name, points=1)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"points": 0}, ["points"]),
        ({"max_duration_ms": 3000}, ["tokenTtlS"]),  # whole only together with the life it has
        ({"min_duration_ms": 2001}, ["maxDurationMs"]),
        ({"points_min": 1}, ["pointsMin"]),
        ({"formula": "ratio"}, ["pointsMin", "pointsMax"]),
        ({"formula": "ratio", "points_min": 5, "points_max": 4}, ["pointsMax"]),
        ({"formula": "ratio", "points_min": 0, "points_max": 1001}, ["pointsMin", "pointsMax"]),
        ({"formula": "none", "points_min": 1, "points_max": 2}, ["formula"]),
        ({"action_type": "OTHER"}, ["action_type"]),
        ({"times_since_ms": 5}, ["times_since_ms"]),
        ({"nonsense": 5, "points": 4}, ["nonsense"]),
    ],
)
async def test_what_would_come_of_it_is_judged_as_a_whole(
    actions: Actions, type_name: str, values: dict[str, Any], fields: list[str]
) -> None:
    made = await actions.create_type(type_name)

    with pytest.raises(Unprocessable) as refused:
        await actions.change_type(type_name, **values)

    assert refused.value.code == "VALIDATION_FAILED"
    assert [problem.field for problem in refused.value.errors] == fields
    assert await listed(actions, type_name) == made


async def test_of_changes_side_by_side_none_is_lost(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    await actions.create_type(type_name)
    values: dict[str, Any] = {"title": "T", "points": 5, "daily_cap": 6, "max_open": 7}

    async with open_actions(pool, certificates) as other:
        for _ in range(5):
            await asyncio.gather(
                *(
                    replica.change_type(type_name, **{name: value})
                    for name, value in values.items()
                    for replica in (actions, other)
                )
            )
            changed = await listed(actions, type_name)
            assert {name: getattr(changed, name) for name in values} == values
            await actions.change_type(type_name, title="x", points=1, daily_cap=1, max_open=1)


async def test_of_two_changes_that_do_not_go_together_one_is_refused(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, min_duration_ms=100, max_duration_ms=200)

    outcomes = await asyncio.gather(
        actions.change_type(type_name, min_duration_ms=180),
        actions.change_type(type_name, max_duration_ms=150),
        return_exceptions=True,
    )

    assert sorted(isinstance(one, Unprocessable) for one in outcomes) == [False, True]


async def test_every_replica_goes_by_a_change_within_a_second(
    actions: Actions, pool: asyncpg.Pool, type_name: str
) -> None:
    await actions.create_type(type_name, points=1)
    catalogue = Catalogue(ActionsStore(Database(pool)).types)
    await catalogue.refresh()
    following = asyncio.create_task(catalogue.follow())
    await actions.change_type(type_name, points=2)

    async def followed() -> bool:
        held = catalogue.get(type_name)
        return held is not None and held.points == 2

    try:
        await eventually(followed, timeout_s=1.0)
    finally:
        following.cancel()


async def test_a_change_is_written_to_the_audit_log_with_what_it_was(
    actions: Actions, type_name: str, logged: list[Any]
) -> None:
    await actions.create_type(type_name, points=1)
    await actions.change_type(type_name, points=2)
    with pytest.raises(Unprocessable):
        await actions.change_type(type_name, points=0)
    made, changed = logged

    assert {line["stream"] for line in logged} == {"audit"}
    assert made["event"] == "action_type_created"
    assert changed["event"] == "action_type_changed"
    assert (changed["action_type"], changed["points"]) == (type_name, (1, 2))
    assert "title" not in changed


async def test_an_open_token_keeps_its_points_and_its_life(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, points=10, token_ttl_s=300)
    play = await actions.issue(new_user(), type_name)
    await actions.change_type(
        type_name, points=20, token_ttl_s=3, authoritative=True, daily_cap=1, max_open=1
    )

    with clock.ahead(100):
        result = await actions.verify(play, play.update(completion_ms=10))

    assert not result.HasField("failure")
    assert result.points == 10


async def test_a_fixed_price_holds_when_a_formula_comes_and_the_present_one_when_it_goes(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, points=10)
    fixed = await actions.issue(new_user(), type_name)
    await actions.change_type(type_name, formula="time_bonus", points_min=50, points_max=50)
    computed = await actions.issue(new_user(), type_name)

    assert (await actions.verify(fixed, fixed.update(completion_ms=0))).points == 10
    assert (await actions.verify(computed, computed.prove(completion_ms=0))).points == 50
    await actions.change_type(type_name, formula="", points_min=None, points_max=None, points=30)
    assert (await actions.verify(computed, computed.prove(completion_ms=0))).points == 30


async def test_bounds_that_came_after_the_play_began_accuse_no_player(
    actions: Actions, pool: asyncpg.Pool, type_name: str
) -> None:
    await actions.create_type(type_name, min_duration_ms=0, token_ttl_s=300)
    early, liar = [await actions.issue(new_user(), type_name) for _ in range(2)]
    await actions.change_type(type_name, min_duration_ms=1000)
    with clock.ahead(2):
        late = await actions.issue(new_user(), type_name)
        refused = await actions.verify(early, early.update(completion_ms=900))
        lied = await actions.verify(liar, liar.update(completion_ms=60_000))
    with clock.ahead(4):
        accused = await actions.verify(late, late.update(completion_ms=900))
    reported = await pool.fetch("SELECT action_id::text FROM actions.incidents")

    for result in (refused, lied, accused):
        assert (result.failure.code, result.closes) == ("SUSPICIOUS_ACTIVITY", True)
    assert {row["action_id"] for row in reported} == {
        liar.issued.action_id,
        late.issued.action_id,
    }
