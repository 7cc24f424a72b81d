"""Every code that scores refuses an award with, each leaving ledger, totals and ranks untouched."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chassis.batching import BATCH_MAX
from chassis.ids import uuid7
from protos import actions_pb2, fraud_pb2, scores_pb2
from services.scores.tests.conftest import Scores, item
from services.scores.tests.test_grants import grant
from services.scores.tests.test_reversals import board

ADA, BOB = uuid7(), uuid7()
USED, GRANTED = uuid7(), uuid7()
KEY = b"k" * 32

Refuse = Callable[[Scores], Awaitable[scores_pb2.AwardItem]]


async def _forged(scores: Scores) -> scores_pb2.AwardItem:
    forged = item(ADA)
    forged.attempt.action_token = "forged"
    return forged


async def _foreign(scores: Scores) -> scores_pb2.AwardItem:
    foreign = item(BOB)
    foreign.attempt.user_id = ADA
    return foreign


def _refused(code: str) -> Refuse:
    async def refuse(scores: Scores) -> scores_pb2.AwardItem:
        return item(ADA, refusal=code)

    return refuse


def _judged(verdict: fraud_pb2.Verdict) -> Refuse:
    async def refuse(scores: Scores) -> scores_pb2.AwardItem:
        scores.fraud.verdicts = {ADA: verdict}
        return item(ADA)

    return refuse


async def _used(scores: Scores) -> scores_pb2.AwardItem:
    return item(ADA, action_id=USED)


async def _other_body(scores: Scores) -> scores_pb2.AwardItem:
    return item(ADA, action_id=USED, key=KEY, body=b"other" * 6)


async def _other_grant(scores: Scores) -> scores_pb2.AwardItem:
    return grant(GRANTED, points=51)


async def _too_much(scores: Scores) -> scores_pb2.AwardItem:
    return item(ADA, 2**53 - 1)


async def _too_much_granted(scores: Scores) -> scores_pb2.AwardItem:
    return grant(uuid7(), points=1001)


async def _without_postgres(scores: Scores) -> scores_pb2.AwardItem:
    scores.awards.breaker.trip()
    return item(ADA)


async def _expired_without_postgres(scores: Scores) -> scores_pb2.AwardItem:
    scores.awards.breaker.trip()
    return item(ADA, action_id=USED, refusal="TOKEN_EXPIRED")


_BANNED = fraud_pb2.Verdict(sanction=fraud_pb2.Sanction(kind=fraud_pb2.Sanction.BANNED))
# What Verify refuses with; the first two before any call.
_VERIFY = (
    "ACTION_CLOSED",
    "TOKEN_EXPIRED",
    "TIMESTAMP_OUT_OF_RANGE",
    "SCORE_OUT_OF_RANGE",
    "SCORE_MISMATCH",
    "SIGNATURE_INVALID",
    "PROOF_REQUIRED",
    "SUSPICIOUS_ACTIVITY",
)

TABLE: list[tuple[str, Refuse]] = [
    ("TOKEN_INVALID", _forged),
    ("TOKEN_MISMATCH", _foreign),
    *((code, _refused(code)) for code in _VERIFY),
    ("TOKEN_ALREADY_USED", _used),
    ("IDEMPOTENCY_KEY_REUSED", _other_body),
    ("IDEMPOTENCY_KEY_REUSED", _other_grant),
    ("SUSPICIOUS_ACTIVITY", _judged(fraud_pb2.Verdict(decision=fraud_pb2.Verdict.REJECT))),
    ("ACCOUNT_BANNED", _judged(fraud_pb2.Verdict(decision=fraud_pb2.Verdict.BAN))),
    ("ACCOUNT_BANNED", _judged(_BANNED)),
    ("SCORE_OUT_OF_RANGE", _too_much),
    ("SCORE_OUT_OF_RANGE", _too_much_granted),
    ("QUEUED_FOR_REPLAY", _without_postgres),
    ("DB_UNAVAILABLE", _expired_without_postgres),
]


async def _state(scores: Scores) -> list[Any]:
    tables = [
        await scores.admin.fetch(f"SELECT * FROM scores.{table} ORDER BY 1, 2")
        for table in ("ledger", "players", "standings", "receipts", "outbox")
    ]
    boards = [await board(scores, name) for name in ("all_time", "daily", "weekly", "monthly")]
    return [tables, boards]


@pytest.mark.parametrize(
    ("code", "refuse"), TABLE, ids=[f"{n}-{code}" for n, (code, _) in enumerate(TABLE)]
)
async def test_a_refused_award_leaves_ledger_totals_and_ranks_untouched(
    scores: Scores, code: str, refuse: Refuse
) -> None:
    await scores.award(
        item(ADA, 50, action_id=USED, key=KEY, body=b"b" * 32), grant(GRANTED), item(BOB, 60)
    )
    await scores.awards.publisher.drain()
    before = await _state(scores)

    assert await scores.award(await refuse(scores)) == [code]

    await scores.awards.publisher.drain()
    assert await _state(scores) == before


async def test_every_flipped_bit_of_a_token_is_refused_without_a_call(
    scores: Scores,
) -> None:
    """What actions does not accept as a token of its own goes no further: no store, no verdict."""
    token = f"v1.{secrets.token_urlsafe(160)}"
    flipped = [
        token[:place] + chr(ord(letter) ^ 1 << bit) + token[place + 1 :]
        for place, letter in enumerate(token)
        for bit in range(8)
    ]
    attempts = [actions_pb2.VerifyItem(user_id=ADA, action_token=text) for text in flipped]
    items = [scores_pb2.AwardItem(attempt=attempt) for attempt in attempts]
    before = await _commands(scores)
    await scores.pool.close()

    codes = {
        code
        for start in range(0, len(items), BATCH_MAX)
        for code in await scores.award(*items[start : start + BATCH_MAX])
    }

    assert len(items) > 1500
    assert codes == {"TOKEN_INVALID"}
    assert await _commands(scores) == before + 1  # the question itself
    assert scores.fraud.judged == []
    assert scores.actions.settled == []


async def _commands(scores: Scores) -> int:
    """How many commands Redis has been given."""
    return int((await scores.redis.info("stats"))["total_commands_processed"])
