"""Incidents: a token shown again is reported to fraud, a repeated request is not."""

import pytest

from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.testing import eventually
from services.scores.tests.conftest import Scores, item

ADA, BOB = uuid7(), uuid7()


async def test_a_used_token_shown_again_is_reported_as_a_replay(scores: Scores) -> None:
    action = uuid7()
    await scores.award(item(ADA, action_id=action))
    await scores.award(item(ADA, action_id=action))
    await scores.award(item(ADA, action_id=action, refusal="TOKEN_EXPIRED"))
    await scores.awards.incidents.drain()

    assert await scores.awards.incidents.send() == 2

    assert {(i.rule, i.user_id, i.action_id, i.action_type) for i in scores.fraud.incidents} == {
        ("replay", ADA, action, "WIN_GAME")
    }
    assert len({i.incident_id for i in scores.fraud.incidents}) == 2
    assert await scores.awards.incidents.send() == 0


async def test_a_repeat_of_the_same_request_is_no_replay(scores: Scores) -> None:
    attempt = item(ADA, key=b"k" * 32, body=b"b" * 32)
    again = item(ADA, key=b"k" * 32, body=b"b" * 32)
    again.attempt.action_token = attempt.attempt.action_token
    reused = item(ADA, key=b"k" * 32, body=b"c" * 32)
    reused.attempt.action_token = attempt.attempt.action_token
    foreign = item(BOB)
    foreign.attempt.action_token = attempt.attempt.action_token

    await scores.award(attempt)
    answers = await scores.award(attempt, again, reused, foreign)
    await scores.awards.incidents.drain()

    assert answers[2:] == ["IDEMPOTENCY_KEY_REUSED", "TOKEN_MISMATCH"]
    assert await scores.awards.incidents.send() == 0


async def test_an_attempt_reported_again_is_one_incident(scores: Scores) -> None:
    action = uuid7()
    await scores.award(item(ADA, action_id=action))
    late = item(ADA, action_id=action)
    await scores.award(late)
    await scores.award(late)
    await scores.awards.incidents.drain()

    assert await scores.awards.incidents.send() == 1


async def test_incidents_wait_while_fraud_is_unavailable(scores: Scores) -> None:
    action = uuid7()
    await scores.award(item(ADA, action_id=action))
    scores.fraud.unavailable = True
    await scores.award(item(ADA, action_id=action))
    await scores.awards.incidents.drain()
    with pytest.raises(Failed):
        await scores.awards.incidents.send()

    scores.fraud.unavailable = False

    async def reported() -> bool:
        return await scores.awards.incidents.send() == 1

    await eventually(reported)
    assert [i.rule for i in scores.fraud.incidents] == ["replay"]
