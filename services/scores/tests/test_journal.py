"""The replay journal: what it takes, whom it believes, and that each award is made once."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from chassis import clock
from chassis.ids import uuid7
from chassis.keyring import Keyring
from chassis.process import background
from chassis.testing import Certificates, eventually
from protos import events_pb2, fraud_pb2, scores_pb2
from services.scores.awards.journal import HELD, STREAM, ReplayJournal
from services.scores.awards.records import Judged
from services.scores.boards.changes import Row
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import KEYS, open_scores
from services.scores.tests.test_grants import grant
from services.scores.tests.test_reversals import board

ADA, BOB = uuid7(), uuid7()
QUEUED = "QUEUED_FOR_REPLAY"


@pytest.fixture
async def cut_off(scores: Scores) -> Scores:
    """The service while its breaker is open, and nothing probes Postgres."""
    scores.awards.breaker.trip()
    return scores


async def ledger(scores: Scores) -> list[tuple[str, int]]:
    """Players and points of the ledger, in its order."""
    rows = await scores.pool.fetch("SELECT user_id, points FROM scores.ledger ORDER BY seq")
    return [(str(row["user_id"]), row["points"]) for row in rows]


async def waiting(scores: Scores) -> tuple[int, int]:
    return await scores.redis.xlen(STREAM), await scores.redis.hlen(HELD)


async def receipt_of(scores: Scores, action_id: str) -> scores_pb2.Award:
    """As it is returned once Postgres has answered the probe."""
    async with background(scores.awards.breaker.follow()):

        async def closed() -> bool:
            return not scores.awards.breaker.open

        await eventually(closed)
    request = scores_pb2.ReceiptRequest(user_id=ADA, action_id=action_id)
    receipt: scores_pb2.Award = await scores.stub.Receipt(request)
    return receipt


def journal(scores: Scores, keys: Keyring = KEYS) -> ReplayJournal:
    """Another replica's."""
    return ReplayJournal(
        scores.redis, keys, scores.awards.writer, scores.awards.publisher, items_max=1000
    )


async def test_an_award_is_kept_and_then_made_published_and_returned_like_any(
    cut_off: Scores,
) -> None:
    attempt = item(ADA, 50, username="ada")
    reply = await cut_off.stub.Award(scores_pb2.AwardRequest(items=[attempt]))

    assert reply.results[0].failure.code == QUEUED
    assert reply.results[0].failure.retry_after_s > 0
    assert (await ledger(cut_off), await board(cut_off)) == ([], [])

    await cut_off.awards.journal.drain()
    await cut_off.awards.publisher.drain()

    assert await ledger(cut_off) == [(ADA, 50)]
    assert await board(cut_off) == [(ADA, 50)]
    assert await waiting(cut_off) == (0, 0)
    action = attempt.attempt.action_token.split("|")[0]
    assert cut_off.actions.settled == [(action, True)]
    entries: Any = await cut_off.redis.xrange("{events}:awards")
    event = events_pb2.ScoreEvents.FromString(entries[0][1][b"batch"]).events[0]
    assert (event.event_id, event.username, event.rank) == (action, "ada", 1)
    receipt = await receipt_of(cut_off, action)
    assert (receipt.new_score, receipt.rank, list(receipt.warnings)) == (50, 1, [])
    assert await cut_off.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


async def test_a_flagged_award_is_under_review_when_it_is_made(cut_off: Scores) -> None:
    cut_off.fraud.verdicts = {ADA: fraud_pb2.Verdict(decision=fraud_pb2.Verdict.FLAG)}
    action = uuid7()
    await cut_off.award(item(ADA, action_id=action))

    await cut_off.awards.journal.drain()
    await cut_off.awards.publisher.drain()

    receipt = await receipt_of(cut_off, action)
    assert list(receipt.warnings) == ["UNDER_REVIEW"]


async def test_only_what_was_verified_and_not_refused_is_kept(cut_off: Scores) -> None:
    cut_off.fraud.verdicts = {BOB: fraud_pb2.Verdict(decision=fraud_pb2.Verdict.REJECT)}
    forged, foreign = item(ADA), item(BOB)
    forged.attempt.action_token, foreign.attempt.user_id = "forged", ADA

    answers = await cut_off.award(
        item(ADA, 1), item(BOB), forged, item(ADA, refusal="TOKEN_EXPIRED"), foreign, item(ADA, 2)
    )

    # Whether an expired token was used before, only the ledger could show.
    assert answers == [
        QUEUED,
        "SUSPICIOUS_ACTIVITY",
        "TOKEN_INVALID",
        "DB_UNAVAILABLE",
        "TOKEN_MISMATCH",
        QUEUED,
    ]
    await cut_off.awards.journal.drain()
    assert await ledger(cut_off) == [(ADA, 1), (ADA, 2)]


async def test_an_action_is_kept_once_however_often_it_is_requested(cut_off: Scores) -> None:
    action = uuid7()

    answers = [await cut_off.award(*[item(ADA, action_id=action)] * 2) for _ in range(5)]

    assert answers == [[QUEUED, QUEUED]] * 5
    assert await waiting(cut_off) == (1, 1)
    await cut_off.awards.journal.drain()
    assert await ledger(cut_off) == [(ADA, 50)]


async def test_other_contents_under_a_kept_id_are_refused(cut_off: Scores) -> None:
    action = uuid7()
    await cut_off.award(grant(action))

    assert await cut_off.award(
        grant(action), grant(action, BOB), grant(action, points=7), item(ADA, action_id=action)
    ) == [QUEUED, "IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_REUSED", "TOKEN_ALREADY_USED"]


async def test_a_client_that_tries_again_when_postgres_is_back_is_credited_once(
    cut_off: Scores,
) -> None:
    attempt = item(ADA)
    await cut_off.award(attempt)
    row = (await cut_off.awards.writer.insert([_claim(attempt)]))[0]

    await cut_off.awards.journal.drain()
    await cut_off.awards.publisher.drain()

    assert isinstance(row, Row)
    assert cut_off.actions.settled == []  # its writer publishes it
    assert await ledger(cut_off) == [(ADA, 50)]
    assert await waiting(cut_off) == (0, 0)


def _claim(attempt: scores_pb2.AwardItem) -> Judged:
    action, user, points = attempt.attempt.action_token.split("|")
    return Judged(
        action_id=action,
        user_id=user,
        username="",
        name_version=1,
        action_type="WIN_GAME",
        points=int(points),
        attempt_id=uuid7(),
        client_id=None,
        key_hash=None,
        body_hash=None,
    )


async def test_a_full_journal_takes_no_more(
    scores_database: dict[str, str], redis: Any, certificates: Certificates
) -> None:
    async with open_scores(scores_database, redis, certificates, journal_max=3) as scores:
        scores.awards.breaker.trip()

        answers = await scores.award(*(item(ADA, points) for points in (1, 2, 3, 4, 5)))

        assert answers == [QUEUED] * 3 + ["DB_UNAVAILABLE"] * 2
        await scores.awards.journal.drain()
        assert await scores.award(item(ADA, 6)) == [QUEUED]
        assert await ledger(scores) == [(ADA, 1), (ADA, 2), (ADA, 3)]


async def test_awards_are_made_in_the_order_they_came(cut_off: Scores) -> None:
    for start in range(0, 600, 100):
        await cut_off.award(*(item((ADA, BOB)[n % 2], 1 + n) for n in range(start, start + 100)))

    await cut_off.awards.journal.drain()

    assert await ledger(cut_off) == [((ADA, BOB)[n % 2], 1 + n) for n in range(600)]


async def test_what_was_not_made_here_is_dropped_and_nothing_else(cut_off: Scores) -> None:
    await cut_off.award(item(ADA, 1), item(ADA, 2), item(ADA, 3))
    entries: Any = await cut_off.redis.xrange(STREAM)
    sealed = entries[1][1][b"item"]
    await cut_off.redis.xdel(STREAM, entries[1][0])
    richer = sealed.replace(b"\xa6points\x02", b"\xa6points\x7f")
    assert richer != sealed
    for forged in (b"", b"\x01", sealed[33:], b"\x07" + sealed[1:], sealed[:-1], richer):
        await cut_off.redis.xadd(STREAM, {"action": uuid7(), "item": forged})
    for bit in range(0, 8 * len(sealed), 37):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        await cut_off.redis.xadd(STREAM, {"item": bytes(flipped)})
    await cut_off.redis.xadd(STREAM, {"nothing": "at all"})

    await cut_off.awards.journal.drain()

    assert await ledger(cut_off) == [(ADA, 1), (ADA, 3)]
    assert await cut_off.redis.xlen(STREAM) == 0


async def test_a_rotated_key_still_counts_and_a_dropped_one_does_not(cut_off: Scores) -> None:
    await cut_off.award(item(ADA, 1))
    both = Keyring(f"1:{'A' * 43},2:{'B' * 42}A")
    await journal(cut_off, both).drain()
    assert await ledger(cut_off) == [(ADA, 1)]

    await cut_off.award(item(ADA, 2))
    await journal(cut_off, Keyring(f"2:{'B' * 42}A")).drain()
    assert await ledger(cut_off) == [(ADA, 1)]


async def test_an_award_that_can_never_be_written_holds_up_none(cut_off: Scores) -> None:
    await cut_off.award(item(ADA, 1), item(BOB, 2**53), item(ADA, 3))

    await cut_off.awards.journal.drain()

    assert await ledger(cut_off) == [(ADA, 1), (ADA, 3)]
    assert await waiting(cut_off) == (0, 0)


async def test_an_item_that_fails_for_an_unknown_reason_stays_and_holds_up_none(
    cut_off: Scores,
) -> None:
    first, odd, last = (_claim(item(ADA, points)) for points in (1, 2, 3))
    odd = msgspec.structs.replace(odd, attempt_id="no uuid")
    await cut_off.awards.journal.queue([first, odd, last])

    await cut_off.awards.journal.drain()
    await cut_off.awards.journal.drain()

    assert await ledger(cut_off) == [(ADA, 1), (ADA, 3)]
    assert await waiting(cut_off) == (1, 1)


async def test_a_redis_that_forgets_with_its_process_is_warned_of(cut_off: Scores) -> None:
    with capture_logs() as logged:
        await cut_off.awards.journal.warn_unless_persistent()
        await cut_off.redis.config_set("appendonly", "yes")
        try:
            await cut_off.awards.journal.warn_unless_persistent()
        finally:
            await cut_off.redis.config_set("appendonly", "no")

    assert [line["event"] for line in logged] == ["journal_not_persistent"]


async def test_two_drainers_at_once_make_each_award_once(cut_off: Scores) -> None:
    for _ in range(4):
        await cut_off.award(*(item(ADA, 1) for _ in range(150)))

    await asyncio.gather(*(drainer.drain() for drainer in (journal(cut_off), journal(cut_off))))

    assert len(await ledger(cut_off)) == 600
    assert await board(cut_off) == [(ADA, 600)]
    assert await waiting(cut_off) == (0, 0)


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
async def test_a_drainer_that_dies_anywhere_loses_and_doubles_nothing(
    cut_off: Scores, turns: int
) -> None:
    await cut_off.award(*(item(user, 1) for user in (ADA, BOB) for _ in range(50)))

    dying = asyncio.create_task(journal(cut_off).drain())
    for _ in range(turns):
        await asyncio.sleep(0)
    dying.cancel()
    await asyncio.wait([dying])
    await journal(cut_off).drain()
    await cut_off.awards.publisher.drain()
    await cut_off.awards.relay.work(1)

    assert len(await ledger(cut_off)) == 100
    assert sorted(await board(cut_off)) == sorted([(ADA, 50), (BOB, 50)])
    assert await waiting(cut_off) == (0, 0)
    assert await cut_off.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


async def test_an_award_is_of_the_time_it_is_made_and_its_token_of_the_time_it_was_shown(
    cut_off: Scores,
) -> None:
    await cut_off.award(item(ADA, 50))
    verified = cut_off.actions.verified

    with clock.ahead(24 * 3600):
        await cut_off.registry.refresh()
        await cut_off.upkeep.rebuild.work()
        await cut_off.awards.journal.drain()
        shown = await board(cut_off, "daily")

    assert cut_off.actions.verified == verified  # nothing is verified again, so nothing can expire
    assert shown == [(ADA, 50)]
    assert await board(cut_off, "daily") == []


async def test_without_postgres_and_redis_nothing_is_promised(cut_off: Scores) -> None:
    await cut_off.redis.config_set("maxmemory", "1")
    try:
        answers: Sequence[Any] = await cut_off.award(item(ADA), item(BOB))
    finally:
        await cut_off.redis.config_set("maxmemory", "0")

    assert answers == ["DB_UNAVAILABLE"] * 2
    await cut_off.awards.journal.drain()
    assert await ledger(cut_off) == []
