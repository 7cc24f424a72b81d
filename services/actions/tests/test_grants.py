"""Tests of grants: what a game server may award, and what it gets back."""

from typing import Any

import asyncpg
import pytest

from chassis import clock
from chassis.ids import uuid7
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, new_user
from services.actions.tests.serving import Actions


def made(ago_s: float) -> str:
    with clock.ahead(-ago_s):
        return uuid7()


async def test_a_grant_is_worth_what_its_type_is(actions: Actions, pool: asyncpg.Pool) -> None:
    action_id, user_id = uuid7(), new_user()
    before = await pool.fetchval("SELECT count(*) FROM actions.actions")

    unstated = await actions.grant(action_id=action_id, user_id=user_id)
    stated = await actions.grant(action_id=action_id, user_id=user_id, score_increment=50)

    expected = pb.VerifyResult(
        sealed=pb.Sealed(action_id=action_id, user_id=user_id, action_type="WIN_GAME"),
        points=50,
    )
    assert unstated == stated == expected
    assert await pool.fetchval("SELECT count(*) FROM actions.actions") == before


async def test_a_type_that_only_game_servers_award_is_granted_and_never_issued(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, authoritative=True, points=9)

    granted = await actions.grant(action_type=type_name, action_types=["X", type_name])
    (issued,) = await actions.results(new_user(), type_name)

    assert granted.points == 9
    assert issued.failure.code == "ACTION_TYPE_AUTHORITATIVE"


@pytest.mark.parametrize(
    ("fields", "code", "errors"),
    [
        (
            {"action_type": "NO_TYPE", "action_types": ["NO_TYPE"]},
            "ACTION_TYPE_UNKNOWN",
            ["actionType"],
        ),
        ({"action_type": "NO_TYPE"}, "ACTION_TYPE_UNKNOWN", ["actionType"]),
        ({"action_types": []}, "FORBIDDEN", []),
        ({"action_types": ["COMPLETE_QUEST", "WIN_GAM"]}, "FORBIDDEN", []),
        ({"action_types": [], "score_increment": 0}, "FORBIDDEN", []),
        ({"action_id": ""}, "VALIDATION_FAILED", ["actionId"]),
        ({"action_id": "nonsense"}, "VALIDATION_FAILED", ["actionId"]),
        ({"action_id": new_user()}, "VALIDATION_FAILED", ["actionId"]),  # no UUIDv7
        ({"action_id": uuid7().upper()}, "VALIDATION_FAILED", ["actionId"]),
        ({"action_id": uuid7() + "\n"}, "VALIDATION_FAILED", ["actionId"]),
        ({"action_id": made(24 * 3600 + 1)}, "VALIDATION_FAILED", ["actionId"]),
        ({"action_id": made(-3600)}, "VALIDATION_FAILED", ["actionId"]),
        ({"user_id": "nobody"}, "VALIDATION_FAILED", ["userId"]),
        ({"user_id": new_user().upper()}, "VALIDATION_FAILED", ["userId"]),
        ({"user_id": "", "action_id": "", "action_type": "NO_TYPE"},
         "VALIDATION_FAILED", ["actionId", "userId"]),
        ({"score_increment": 49}, "SCORE_MISMATCH", []),
        ({"score_increment": 1000}, "SCORE_MISMATCH", []),
        ({"score_increment": 0}, "SCORE_OUT_OF_RANGE", []),
        ({"score_increment": 1001}, "SCORE_OUT_OF_RANGE", []),
        ({"score_increment": -(2**63)}, "SCORE_OUT_OF_RANGE", []),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_grant_is_reported(
    actions: Actions, fields: dict[str, Any], code: str, errors: list[str]
) -> None:
    result = await actions.grant(**fields)

    assert result.failure.code == code
    assert [problem.field for problem in result.failure.errors] == errors
    assert (result.points, result.closes) == (0, False)
    if code == "SCORE_OUT_OF_RANGE":
        assert result.failure.detail.endswith("it must be 1 to 1000.")


@pytest.mark.parametrize("ago_s", [24 * 3600 - 2, 0, -4])
async def test_an_id_may_be_a_day_old_and_seconds_ahead(actions: Actions, ago_s: float) -> None:
    result = await actions.grant(action_id=made(ago_s))

    assert not result.HasField("failure")


async def test_what_names_an_action_and_a_player_says_so_also_where_it_is_refused(
    actions: Actions,
) -> None:
    # So that the ledger can be queried for whether it holds the very same award.
    old = await actions.grant(action_id=made(24 * 3600 + 60))
    other = await actions.grant(score_increment=49)
    malformed = await actions.grant(action_id="nonsense")

    assert old.HasField("sealed")
    assert other.HasField("sealed")
    assert not malformed.HasField("sealed")


@pytest.mark.parametrize(
    ("points", "code", "errors"),
    [
        (None, "VALIDATION_FAILED", ["scoreIncrement"]),
        (19, "SCORE_OUT_OF_RANGE", []),
        (20, "", []),
        (40, "", []),
        (41, "SCORE_OUT_OF_RANGE", []),
    ],
)
async def test_where_a_formula_computes_the_server_states_the_points_in_their_range(
    actions: Actions, type_name: str, points: int | None, code: str, errors: list[str]
) -> None:
    await actions.create_type(
        type_name, points=0, formula="ratio", points_min=20, points_max=40, authoritative=True
    )

    result = await actions.grant(
        action_type=type_name, action_types=[type_name], score_increment=points
    )

    assert result.failure.code == code
    assert [problem.field for problem in result.failure.errors] == errors
    assert result.points == (0 if code else points)


async def test_grants_and_tokens_travel_in_one_batch_each_with_its_own_answer(
    actions: Actions,
) -> None:
    play = await actions.issue(new_user())
    granted = pb.Grant(
        action_types=["COMPLETE_QUEST"],
        action_id=uuid7(),
        user_id=new_user(),
        action_type="COMPLETE_QUEST",
    )
    with clock.ahead(6):
        token = pb.VerifyItem(
            user_id=play.user_id, action_token=play.issued.action_token, claims=play.update()
        )
        forged = pb.VerifyItem(user_id=play.user_id, action_token="v1.forged")
        items = [pb.VerifyItem(grant=granted), forged, token, pb.VerifyItem(grant=pb.Grant())]
        reply = await actions.scores.Verify(pb.VerifyRequest(items=items))

    assert [one.points for one in reply.results] == [100, 0, 50, 0]
    assert [one.failure.code for one in reply.results] == [
        "",
        "TOKEN_INVALID",
        "",
        "VALIDATION_FAILED",
    ]


async def test_a_token_is_judged_as_such_by_none_of_its_claims_about_grants(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, authoritative=True)
    play = await actions.issue(new_user())

    result = await actions.verify(play, pb.Claims(action_type=type_name))

    assert result.failure.code == "TOKEN_MISMATCH"


async def test_a_grant_of_a_cached_type_needs_no_query(
    watched: tuple[Actions, list[str]], type_name: str
) -> None:
    actions, queries = watched
    queries.clear()

    await actions.grant()
    await actions.grant(action_types=[])
    await actions.grant(score_increment=0)
    await actions.grant(action_id="nonsense")
    assert queries == []

    await actions.grant(action_type=type_name)
    assert queries == ["acquire", "release"]


async def test_settling_what_was_granted_is_no_news_here(
    actions: Actions, pool: asyncpg.Pool
) -> None:
    play = await actions.issue(new_user())
    granted = Play(new_user(), pb.Issued(action_id=uuid7()))

    awarded = [one.issued.action_id for one in (granted, play)]
    await actions.scores.Settle(pb.SettleRequest(awarded=awarded))

    assert await actions.state(play) == "awarded"
    assert not await pool.fetchval(
        "SELECT count(*) FROM actions.actions WHERE action_id = $1", granted.issued.action_id
    )
