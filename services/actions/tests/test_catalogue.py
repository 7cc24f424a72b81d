"""Tests of the catalogue: the built-in types, new ones, and every replica knowing them."""

import asyncio

import asyncpg
import pytest

from chassis.errors import Conflict, Unprocessable
from chassis.postgres import Database
from chassis.testing import Certificates, eventually
from protos import actions_pb2 as pb
from services.actions.catalogue import Catalogue
from services.actions.store import ActionsStore
from services.actions.tests.players import new_user
from services.actions.tests.serving import Actions, open_actions


async def test_the_built_in_types_are_there(actions: Actions) -> None:
    reply = await actions.gateway.Catalogue(pb.CatalogueRequest())
    points = {listed.action_type: listed.points for listed in reply.types}
    bounds = {
        (listed.min_duration_ms, listed.max_duration_ms, listed.token_ttl_s)
        for listed in reply.types
        if listed.action_type in ("WIN_GAME", "COMPLETE_QUEST", "COMPLETE_LEVEL")
    }

    assert points.items() >= {"WIN_GAME": 50, "COMPLETE_QUEST": 100, "COMPLETE_LEVEL": 10}.items()
    assert bounds == {(1000, 300_000, 330)}


async def test_a_new_type_works_on_every_replica_at_once(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    async with open_actions(pool, certificates) as other:
        created = await actions.create_type(type_name, points=7, daily_cap=9)
        play = await other.issue(new_user(), type_name)

        assert created.action_type == type_name
        assert created.daily_cap == 9
        assert not created.HasField("max_open")
        assert play.issued.score_increment == 7


async def test_every_replica_returns_a_new_type_that_is_needed(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    async with open_actions(pool, certificates) as other:
        await actions.create_type(type_name)
        found = await other.gateway.Catalogue(pb.CatalogueRequest(needed=[type_name, "A B", "NO"]))

    names = [known.action_type for known in found.types]
    assert type_name in names
    assert not {"A B", "NO"} & set(names)


async def test_a_type_that_is_unknown_is_named_as_a_field(actions: Actions) -> None:
    [refused] = await actions.results(new_user(), "NO_SUCH_TYPE")

    assert refused.failure.code == "ACTION_TYPE_UNKNOWN"
    assert [(e.field, e.code) for e in refused.failure.errors] == [("actionType", "UNKNOWN")]


async def test_every_field_of_a_type_that_does_not_fit_is_named_at_once(
    actions: Actions, type_name: str
) -> None:
    wrong = {"title": "", "points": 0, "min_duration_ms": -1, "daily_cap": 0, "max_open": 0}
    with pytest.raises(Unprocessable) as refused:
        await actions.create_type(type_name, **wrong)

    found = {problem.field for problem in refused.value.errors}
    assert found == {"title", "points", "minDurationMs", "dailyCap", "maxOpen"}


async def test_a_replica_that_issued_nothing_of_a_new_type_verifies_it(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    async with open_actions(pool, certificates) as other:
        await actions.create_type(type_name)
        play = await actions.issue(new_user(), type_name)
        result = await other.verify(play, play.update(completion_ms=0))

    assert not result.HasField("failure")


async def test_a_replica_follows_changes_by_itself(
    actions: Actions, pool: asyncpg.Pool, type_name: str
) -> None:
    catalogue = Catalogue(ActionsStore(Database(pool)).types)
    following = asyncio.create_task(catalogue.follow(pause_s=0.05))
    await actions.create_type(type_name)

    async def loaded() -> bool:
        return catalogue.get(type_name) is not None

    await eventually(loaded)
    following.cancel()


async def test_a_name_is_taken_once(actions: Actions, type_name: str) -> None:
    created = await asyncio.gather(
        *(actions.create_type(type_name) for _ in range(5)), return_exceptions=True
    )
    refused = [one for one in created if isinstance(one, Conflict)]

    assert len(refused) == 4
    assert {one.code for one in refused} == {"ACTION_TYPE_EXISTS"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 81}, "title"),
        ({"title": "line\nfeed"}, "title"),
        ({"points": 0}, "points"),
        ({"points": 1001}, "points"),
        ({"min_duration_ms": -1}, "minDurationMs"),
        ({"min_duration_ms": 2001}, "maxDurationMs"),
        ({"max_duration_ms": 86_400_001, "token_ttl_s": 90_000}, "maxDurationMs"),
        ({"token_ttl_s": 2}, "tokenTtlS"),
        ({"max_duration_ms": 0, "token_ttl_s": 0}, "tokenTtlS"),
        ({"daily_cap": 0}, "dailyCap"),
        ({"max_open": 0}, "maxOpen"),
    ],
)
async def test_a_field_that_does_not_fit_is_named(
    actions: Actions, type_name: str, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(Unprocessable) as refused:
        await actions.create_type(type_name, **fields)

    assert refused.value.code == "VALIDATION_FAILED"
    assert [problem.field for problem in refused.value.errors] == [field]


@pytest.mark.parametrize(("formula", "least"), [("", 1), ("ratio", 0)])
async def test_the_range_of_points_is_named_as_it_is_checked(
    actions: Actions, type_name: str, formula: str, least: int
) -> None:
    spans = {"formula": formula, "points_min": 1, "points_max": 2} if formula else {}
    with pytest.raises(Unprocessable) as refused:
        await actions.create_type(type_name, points=least - 1, **spans)

    (problem,) = refused.value.errors
    assert (problem.field, problem.detail) == ("points", f"must be between {least} and 1000")


@pytest.mark.parametrize("name", ["", "A", "win", "1UP", "A-B", "A" * 41, "AB\n", "ÄB"])
async def test_a_name_of_another_form_is_refused(actions: Actions, name: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        await actions.create_type(name)

    assert [problem.field for problem in refused.value.errors] == ["actionType"]


async def test_every_problem_is_reported_at_once(actions: Actions) -> None:
    with pytest.raises(Unprocessable) as refused:
        await actions.create_type("bad", title="", points=0, daily_cap=0, token_ttl_s=1)

    assert {problem.field for problem in refused.value.errors} == {
        "actionType",
        "title",
        "points",
        "dailyCap",
        "tokenTtlS",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"min_duration_ms": 0, "max_duration_ms": 0, "token_ttl_s": 1},
        {"max_duration_ms": 86_400_000, "token_ttl_s": 86_401},
        {"points": 1000, "title": "x" * 80, "daily_cap": 1, "max_open": 1},
    ],
)
async def test_the_bounds_themselves_fit(
    actions: Actions, type_name: str, fields: dict[str, object]
) -> None:
    assert (await actions.create_type(type_name, **fields)).action_type == type_name
