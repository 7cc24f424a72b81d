"""Action types through the public API alone: made, changed, and worth what a proof shows."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from scoreboard_client import ApiError, Client
from tests.people import action_type, administrator, newcomer
from tests.suite import Suite


@pytest.fixture
async def admin(unlimited: Suite) -> AsyncIterator[Client]:
    async with administrator(unlimited) as client:
        yield client


@pytest.fixture
async def ada(unlimited: Suite) -> AsyncIterator[Client]:
    async with newcomer(unlimited) as client:
        yield client


async def made(admin: Client, **fields: Any) -> str:
    body = action_type(points=1, max_open=50) | fields
    if fields.get("formula"):
        del body["points"]
    created = await admin.call("POST", "/admin/action-types", body)
    return str(created["actionType"])


async def test_a_play_is_worth_what_its_formula_makes_of_the_proof(
    admin: Client, ada: Client
) -> None:
    name = await made(admin, formula="ratio", pointsMin=10, pointsMax=110)
    evidence = {"part": 1, "whole": 3, "level": "seven"}
    first, second, third = [await ada.request_action(name) for _ in range(3)]

    at_once = await ada.complete(first, completion_time_ms=0, evidence=evidence)
    proved = await ada.verify(second, completion_time_ms=0, evidence=evidence)
    later = await ada.update(proved)
    stated = await ada.update(
        replace(third, score_increment=43), completion_time_ms=0, evidence=evidence
    )

    assert first.score_increment is None
    assert proved.score_increment == 43
    assert [award.score_increment for award in (at_once, later, stated)] == [43] * 3
    assert stated.new_score == 3 * 43


@pytest.mark.parametrize(
    ("evidence", "status", "code", "fields"),
    [
        (None, 422, "VALIDATION_FAILED", ["proof.evidence"]),
        ({"points": "9"}, 422, "VALIDATION_FAILED", ["proof.evidence.points"]),
        ({"points": 21}, 422, "SCORE_OUT_OF_RANGE", []),
    ],
)
async def test_evidence_that_gives_no_points_is_reported_and_the_play_goes_on(
    admin: Client, ada: Client, *, evidence: Any, status: int, code: str, fields: list[str]
) -> None:
    name = await made(admin, formula="evidence_points", pointsMin=10, pointsMax=20)
    action = await ada.request_action(name)

    with pytest.raises(ApiError) as refused:
        await ada.complete(action, completion_time_ms=0, evidence=evidence)
    award = await ada.complete(action, completion_time_ms=0, evidence={"points": 20})

    assert (refused.value.status, refused.value.code) == (status, code)
    assert [error["field"] for error in refused.value.errors] == fields
    assert award.score_increment == 20


async def test_another_amount_than_the_formulas_is_refused_and_ends_the_play(
    admin: Client, ada: Client
) -> None:
    name = await made(admin, formula="evidence_points", pointsMin=10, pointsMax=20)
    action = await ada.request_action(name)
    proof: dict[str, Any] = {"completion_time_ms": 0, "evidence": {"points": 15}}

    with pytest.raises(ApiError, match="SCORE_MISMATCH"):
        await ada.update(replace(action, score_increment=16), **proof)
    with pytest.raises(ApiError, match="ACTION_CLOSED"):
        await ada.update(replace(action, score_increment=15), **proof)


async def test_a_change_counts_for_what_is_requested_after_it(admin: Client, ada: Client) -> None:
    name = await made(admin, points=5)
    before = await ada.request_action(name)
    changed = await admin.call("PATCH", f"/admin/action-types/{name}", {"points": 6})
    after = await ada.request_action(name)

    assert changed["points"] == 6
    assert (before.score_increment, after.score_increment) == (5, 6)
    assert (await ada.complete(before, completion_time_ms=0)).score_increment == 5
    assert (await ada.complete(after, completion_time_ms=0)).score_increment == 6
    with pytest.raises(ApiError, match="ACTION_TYPE_NOT_FOUND"):
        await admin.call("PATCH", "/admin/action-types/NO_SUCH_TYPE", {"points": 6})
    with pytest.raises(ApiError, match="VALIDATION_FAILED"):
        await admin.call("PATCH", f"/admin/action-types/{name}", {"pointsMax": 6})


async def test_a_type_for_game_servers_only_is_not_for_players(admin: Client, ada: Client) -> None:
    name = await made(admin, authoritative=True)

    with pytest.raises(ApiError, match="ACTION_TYPE_AUTHORITATIVE"):
        await ada.request_action(name)
