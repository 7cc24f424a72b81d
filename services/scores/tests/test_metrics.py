"""What the metrics of scores count: attempts by their outcome, and what is there beforehand."""

from prometheus_client import REGISTRY

from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.testing import eventually
from protos import fraud_pb2, scores_pb2
from services.scores.tests.conftest import Scores, item

KNOWN = {
    *("awarded", "TOKEN_ALREADY_USED", "ACTION_CLOSED", "IDEMPOTENCY_KEY_REUSED"),
    *("SCORE_OUT_OF_RANGE", "SUSPICIOUS_ACTIVITY", "ACCOUNT_BANNED", "QUEUED_FOR_REPLAY"),
    *("DB_UNAVAILABLE", "UNAVAILABLE", "TIMEOUT", "INTERNAL"),
}


def series(name: str, label: str) -> dict[str, float]:
    """The values of a metric, by its one label."""
    return {
        sample.labels[label]: sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name
    }


def outcomes() -> dict[str, float]:
    return series("scoreboard_awards_total", "outcome")


def risen(before: dict[str, float]) -> dict[str, float]:
    after = outcomes()
    return {
        outcome: after[outcome] - before.get(outcome, 0)
        for outcome in after
        if after[outcome] != before.get(outcome, 0)
    }


def test_outcomes_are_there_before_their_first_event() -> None:
    assert outcomes().keys() >= KNOWN


async def test_each_attempt_of_a_batch_is_counted_by_its_outcome(scores: Scores) -> None:
    ada, banned = uuid7(), uuid7()
    used = item(ada)
    await scores.award(used)
    sanction = fraud_pb2.Sanction(user_id=banned, kind=fraud_pb2.Sanction.BANNED)
    scores.fraud.verdicts[banned] = fraud_pb2.Verdict(sanction=sanction)
    before = outcomes()

    await scores.award(
        item(ada),
        item(uuid7()),
        item(ada, action_id=used.attempt.action_token.partition("|")[0]),
        item(banned),
        item(ada, refusal="TOKEN_EXPIRED"),
        used,  # a call that is made again has the award for its answer
    )

    assert risen(before) == {
        "awarded": 3,
        "TOKEN_ALREADY_USED": 1,
        "ACCOUNT_BANNED": 1,
        "TOKEN_EXPIRED": 1,
    }


async def test_a_batch_that_fails_as_a_whole_is_counted_by_its_items(scores: Scores) -> None:
    scores.actions.broken = True
    before = outcomes()

    failed = await _code(scores, [item(uuid7()), item(uuid7())], timeout_s=5)

    assert risen(before) == {failed: 2}


async def test_a_batch_that_runs_out_of_time_is_counted(scores: Scores) -> None:
    before = outcomes()
    scores.actions.answering.clear()

    assert await _code(scores, [item(uuid7())], timeout_s=0.3) == "TIMEOUT"

    async def counted() -> bool:
        return risen(before) == {"TIMEOUT": 1}

    await eventually(counted)
    scores.actions.answering.set()


async def test_journal_and_boards_are_there_before_their_first_event(scores: Scores) -> None:
    await scores.upkeep.rebuild.work()
    await scores.upkeep.auditor.work(1)

    boards = {"all_time", "daily", "weekly", "monthly"}
    assert series("scoreboard_drift_repaired_total", "board").keys() >= boards
    assert series("scoreboard_boards_rebuilt_total", "board").keys() >= boards
    assert series("scoreboard_journal_items_total", "outcome").keys() >= {
        *("queued", "repeated", "full", "replayed", "forged", "unwritable", "stuck")
    }


async def _code(scores: Scores, items: list[scores_pb2.AwardItem], *, timeout_s: float) -> str:
    """The code by which the whole call fails."""
    try:
        await scores.stub.Award(scores_pb2.AwardRequest(items=items), timeout=timeout_s)
    except Failed as failed:
        return failed.code
    return ""
