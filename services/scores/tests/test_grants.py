"""Grants of game servers: judged by sanction alone, awarded once by their own ids."""

from typing import Any

import pytest

from chassis.ids import uuid7
from protos import actions_pb2, fraud_pb2, scores_pb2
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import repeated

ADA, BOB = uuid7(), uuid7()


def grant(
    action_id: str,
    user_id: str = ADA,
    *,
    client_id: str = "arena",
    action_type: str = "WIN_GAME",
    points: int | None = 50,
    body: bytes = b"",
) -> scores_pb2.AwardItem:
    """A game server's word, in an attempt of its own."""
    return scores_pb2.AwardItem(
        attempt=actions_pb2.VerifyItem(
            attempt_id=uuid7(),
            user_id=user_id,
            grant=actions_pb2.Grant(
                client_id=client_id,
                action_types=["WIN_GAME"],
                action_id=action_id,
                user_id=user_id,
                action_type=action_type,
                score_increment=points,
            ),
        ),
        username="ada",
        name_version=1,
        body_hash=body,
    )


async def test_a_grant_is_awarded_under_its_own_id_and_its_clients_name(scores: Scores) -> None:
    action = uuid7()

    answer = (await scores.award(grant(action)))[0]

    assert (answer.action_id, answer.user_id, answer.new_score) == (action, ADA, 50)
    (row,) = await scores.pool.fetch("SELECT action_id, client_id FROM scores.ledger")
    assert (str(row["action_id"]), row["client_id"]) == (action, "arena")


async def test_a_grant_is_worth_what_verify_says_when_it_states_nothing(scores: Scores) -> None:
    assert (await scores.award(grant(uuid7(), points=None)))[0].score_increment == 50


async def test_the_same_grant_again_gets_the_same_answer(scores: Scores) -> None:
    action = uuid7()
    first = (await scores.award(grant(action)))[0]
    await scores.award(item(ADA, 7))

    assert not first.repeat
    assert (await scores.award(grant(action)))[0] == repeated(first)
    assert (await scores.award(grant(action, points=None)))[0] == repeated(first)


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": BOB},
        {"client_id": "casino"},
        {"points": 51},
        {"action_type": "COMPLETE_QUEST"},
        {"points": 5000},  # refused by Verify, but the row outranks that
    ],
    ids=",".join,
)
async def test_a_grant_with_other_contents_is_refused_and_changes_nothing(
    scores: Scores, other: dict[str, Any]
) -> None:
    action = uuid7()
    await scores.award(grant(action))

    assert await scores.award(grant(action, **other)) == ["IDEMPOTENCY_KEY_REUSED"]
    rows = await scores.pool.fetch("SELECT user_id, points FROM scores.ledger")
    assert [(str(r["user_id"]), r["points"]) for r in rows] == [(ADA, 50)]


async def test_the_same_body_is_the_same_grant_when_the_type_is_worth_more_by_now(
    scores: Scores,
) -> None:
    action = uuid7()
    first = (await scores.award(grant(action, points=40, body=b"b" * 32)))[0]

    assert (await scores.award(grant(action, points=None, body=b"b" * 32)))[0] == repeated(first)


async def test_tokens_and_grants_of_one_id_never_meet(scores: Scores) -> None:
    granted, redeemed = uuid7(), uuid7()
    await scores.award(grant(granted), item(ADA, action_id=redeemed, key=b"k" * 32))

    assert await scores.award(
        item(ADA, action_id=granted), grant(redeemed), item(ADA, action_id=granted, key=b"k" * 32)
    ) == ["TOKEN_ALREADY_USED", "IDEMPOTENCY_KEY_REUSED", "TOKEN_ALREADY_USED"]


async def test_a_grant_is_judged_as_one_and_a_refused_one_not_at_all(scores: Scores) -> None:
    answers = await scores.award(grant(uuid7()), grant(uuid7(), points=5000), item(BOB))

    assert answers[1] == "SCORE_OUT_OF_RANGE"
    assert [(j.verified.sealed.user_id, j.granted) for j in scores.fraud.judged] == [
        (ADA, True),
        (BOB, False),
    ]
    assert all(closed[1] for closed in scores.actions.settled)


async def test_a_banned_player_is_granted_nothing(scores: Scores) -> None:
    sanction = fraud_pb2.Sanction(kind=fraud_pb2.Sanction.BANNED)
    scores.fraud.verdicts = {ADA: fraud_pb2.Verdict(sanction=sanction)}

    assert await scores.award(grant(uuid7())) == ["ACCOUNT_BANNED"]
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.ledger") == 0
