"""The award: exactly once, in order, one bad item never failing its neighbours."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.testing import eventually
from protos import events_pb2, fraud_pb2, scores_pb2
from services.scores.awards import publish
from services.scores.awards.records import Receipt
from services.scores.boards.rules import moment
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import repeated

ADA, BOB = uuid7(), uuid7()


async def _ledger_sum(scores: Scores, user: str) -> int:
    total: int = await scores.pool.fetchval(
        "SELECT coalesce(sum(points), 0)::bigint FROM scores.ledger WHERE user_id = $1", user
    )
    return total


async def test_an_award_moves_the_score_and_returns_both_ranks(scores: Scores) -> None:
    await scores.award(item(BOB, 60))

    first, second = [(await scores.award(item(ADA, 50)))[0] for _ in range(2)]

    assert (first.old_score, first.new_score, first.version) == (0, 50, 1)
    assert not first.HasField("old_rank")
    assert first.rank == 2
    assert (second.old_score, second.new_score, second.old_rank, second.rank) == (50, 100, 2, 1)
    assert list(second.warnings) == []


async def test_several_awards_of_one_player_in_a_batch_chain_in_their_order(
    scores: Scores,
) -> None:
    answers = await scores.award(*(item(ADA, points) for points in (10, 20, 30)))

    assert [(a.old_score, a.new_score, a.version) for a in answers] == [
        (0, 10, 1),
        (10, 30, 2),
        (30, 60, 3),
    ]
    for board in ("all_time", "daily", "weekly", "monthly"):
        assert [e.score for e in (await _top(scores, board)).entries] == [60]


async def test_two_hundred_copies_of_one_token_at_once_count_once(scores: Scores) -> None:
    action = uuid7()
    batches = [[item(ADA, 50, action_id=action) for _ in range(10)] for _ in range(20)]

    answers = [a for batch in await asyncio.gather(*map(_each(scores), batches)) for a in batch]

    assert answers.count("TOKEN_ALREADY_USED") == 199
    assert await _ledger_sum(scores, ADA) == 50


def _each(scores: Scores) -> Callable[[list[scores_pb2.AwardItem]], Awaitable[list[Any]]]:
    async def award(batch: list[scores_pb2.AwardItem]) -> list[Any]:
        return await scores.award(*batch)

    return award


async def test_awards_at_once_to_a_few_players_leave_sums_chains_and_boards_equal(
    scores: Scores,
) -> None:
    players = [uuid7() for _ in range(10)]
    batches = [[item(players[(i + j) % 10], 1 + j) for j in range(25)] for i in range(40)]

    await asyncio.gather(*map(_each(scores), batches))

    rows = await scores.pool.fetch(
        "SELECT user_id, old_score, new_score, version FROM scores.ledger ORDER BY user_id, version"
    )
    assert len(rows) == 1000
    reached: dict[str, tuple[int, int]] = {}
    for row in rows:
        assert reached.get(row["user_id"], (0, 0)) == (row["old_score"], row["version"] - 1)
        reached[row["user_id"]] = (row["new_score"], row["version"])
    totals = await scores.pool.fetch("SELECT user_id, total FROM scores.players")
    assert {r["user_id"]: r["total"] for r in totals} == {u: s for u, (s, _) in reached.items()}
    entries = (await _top(scores)).entries
    assert {e.user_id: e.score for e in entries} == {str(u): s for u, (s, _) in reached.items()}


async def _top(scores: Scores, board: str = "all_time", limit: int = 100) -> scores_pb2.Top:
    reply = await scores.stub.Top(
        scores_pb2.TopRequest(items=[scores_pb2.TopItem(board=board, limit=limit)])
    )
    top: scores_pb2.Top = reply.results[0].top
    return top


async def test_the_same_attempt_again_gets_the_same_answer(scores: Scores) -> None:
    attempt = item(ADA, 50)
    first = (await scores.award(attempt))[0]
    await scores.award(item(ADA, 7))

    again = (await scores.award(attempt))[0]

    assert again == first  # a call that was sent again is no repeat of the player's


async def test_an_idempotency_key_repeats_the_answer_and_refuses_another_body(
    scores: Scores,
) -> None:
    action = uuid7()
    first = (await scores.award(item(ADA, action_id=action, key=b"k" * 32, body=b"b" * 32)))[0]

    same, other, none = [
        (await scores.award(item(ADA, action_id=action, key=key, body=body)))[0]
        for key, body in ((b"k" * 32, b"b" * 32), (b"k" * 32, b"c" * 32), (b"", b"b" * 32))
    ]

    assert not first.repeat
    assert same == repeated(first)
    assert other == "IDEMPOTENCY_KEY_REUSED"
    assert none == "TOKEN_ALREADY_USED"


async def test_of_copies_in_one_batch_under_one_key_the_first_is_no_repeat(scores: Scores) -> None:
    action, key, body = uuid7(), b"k" * 32, b"b" * 32
    copies = [item(ADA, action_id=action, key=key, body=body) for _ in range(3)]

    assert [answer.repeat for answer in await scores.award(*copies)] == [False, True, True]


async def test_a_used_token_says_so_even_when_verify_refuses_it_for_another_reason(
    scores: Scores,
) -> None:
    action = uuid7()
    await scores.award(item(ADA, action_id=action))

    late = (await scores.award(item(ADA, action_id=action, refusal="TOKEN_EXPIRED")))[0]

    assert late == "TOKEN_ALREADY_USED"


async def test_an_awarded_action_is_never_closed_by_a_late_attempt(scores: Scores) -> None:
    action = uuid7()
    await scores.award(item(ADA, action_id=action))

    late = await scores.award(item(ADA, action_id=action, refusal="SUSPICIOUS_ACTIVITY"))

    assert late == ["TOKEN_ALREADY_USED"]
    assert (action, False) not in scores.actions.settled


async def test_one_bad_item_never_fails_its_neighbours(scores: Scores) -> None:
    bad = item(ADA)
    bad.attempt.action_token = "forged"

    answers = await scores.award(
        item(ADA, 50), bad, item(BOB, 2**53), item(ADA, 1, refusal="TOKEN_EXPIRED"), item(BOB, 60)
    )

    assert answers[0].new_score == 50
    assert answers[1] == "TOKEN_INVALID"
    assert answers[2] == "SCORE_OUT_OF_RANGE"
    assert answers[3] == "TOKEN_EXPIRED"
    assert answers[4].new_score == 60


async def test_forged_and_foreign_tokens_are_never_judged(scores: Scores) -> None:
    forged, foreign = item(ADA), item(BOB)
    forged.attempt.action_token = "forged"
    foreign.attempt.user_id = ADA

    answers = await scores.award(forged, foreign)

    assert answers == ["TOKEN_INVALID", "TOKEN_MISMATCH"]
    assert scores.fraud.judged == []


async def test_a_refused_attempt_is_judged_as_refused(scores: Scores) -> None:
    await scores.award(item(ADA, refusal="TOKEN_EXPIRED"), item(ADA))

    assert [j.verified.failure.code for j in scores.fraud.judged] == ["TOKEN_EXPIRED", ""]


async def test_the_judge_gets_the_times_and_their_bounds(scores: Scores) -> None:
    await scores.award(item(ADA))

    judged = scores.fraud.judged[0].verified
    assert (judged.elapsed_ms, judged.claimed_ms) == (2000, 1900)
    assert (judged.min_duration_ms, judged.max_duration_ms) == (1000, 300_000)


async def test_a_flagged_award_counts_under_review_a_rejected_one_never(scores: Scores) -> None:
    scores.fraud.verdicts = {
        ADA: fraud_pb2.Verdict(decision=fraud_pb2.Verdict.FLAG),
        BOB: fraud_pb2.Verdict(decision=fraud_pb2.Verdict.REJECT, decision_id="why"),
    }
    action = uuid7()

    flagged, rejected = await scores.award(item(ADA), item(BOB, action_id=action))

    assert list(flagged.warnings) == ["UNDER_REVIEW"]
    assert rejected == "SUSPICIOUS_ACTIVITY"
    assert await _ledger_sum(scores, BOB) == 0
    assert (action, False) in scores.actions.settled  # closed before the answer


async def test_a_banned_player_is_refused(scores: Scores) -> None:
    sanction = fraud_pb2.Sanction(kind=fraud_pb2.Sanction.BANNED)
    scores.fraud.verdicts = {ADA: fraud_pb2.Verdict(sanction=sanction)}

    assert await scores.award(item(ADA)) == ["ACCOUNT_BANNED"]
    assert await _ledger_sum(scores, ADA) == 0


async def test_the_award_goes_on_without_fraud(scores: Scores) -> None:
    scores.fraud.unavailable = True

    assert (await scores.award(item(ADA)))[0].new_score == 50


async def test_an_award_that_is_written_is_returned_while_redis_is_full(
    scores: Scores,
) -> None:
    """A Redis that is full is available, but takes nothing."""
    await scores.redis.config_set("maxmemory", "1")
    try:
        answer = (await scores.award(item(ADA)))[0]
        await scores.awards.publisher.drain()
    finally:
        await scores.redis.config_set("maxmemory", "0")
    assert (answer.new_score, list(answer.warnings)) == (50, ["RANK_UNAVAILABLE"])

    await scores.awards.relay.work(1)

    assert [e.score for e in (await _top(scores)).entries] == [50]
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


async def test_a_receipt_is_the_award_as_it_was_returned_and_its_owners_only(
    scores: Scores,
) -> None:
    answer = (await scores.award(item(ADA)))[0]

    receipt = await scores.stub.Receipt(
        scores_pb2.ReceiptRequest(user_id=ADA, action_id=answer.action_id)
    )

    assert receipt == answer
    with pytest.raises(Failed, match="AWARD_NOT_FOUND"):
        await scores.stub.Receipt(
            scores_pb2.ReceiptRequest(user_id=BOB, action_id=answer.action_id)
        )


async def test_every_award_is_published_to_the_stream_and_to_actions(scores: Scores) -> None:
    answers = await scores.award(item(ADA, 50, username="ada"), item(BOB, 60))
    await scores.awards.publisher.drain()

    entries: Any = await scores.redis.xrange("{events}:awards")
    events = [
        event
        for _, fields in entries
        for event in events_pb2.ScoreEvents.FromString(fields[b"batch"]).events
    ]
    assert [(e.event_id, e.user_id, e.new_score, e.rank) for e in events] == [
        (answers[0].action_id, ADA, 50, 1),
        (answers[1].action_id, BOB, 60, 1),
    ]
    assert events[0].username == "ada"
    assert sorted(scores.actions.settled) == sorted((a.action_id, True) for a in answers)
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


async def test_awards_that_follow_each_other_are_settled_and_acknowledged_together(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "GATHER_S", 60.0)
    answers = [(await scores.award(item(ADA)))[0] for _ in range(3)]
    ids = [answer.action_id for answer in answers]

    async def all_gathered() -> bool:
        return len(scores.awards.publisher._gathered) == 3

    await eventually(all_gathered)
    assert scores.actions.settlements == 0
    await scores.awards.publisher.drain()

    assert (scores.actions.settlements, scores.actions.settled) == (1, [(i, True) for i in ids])
    assert sorted(await scores.awards.ledger.receipts(ids)) == sorted(ids)
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


async def test_the_relay_publishes_what_the_path_could_not(scores: Scores) -> None:
    scores.actions.unavailable = True
    answer = (await scores.award(item(ADA)))[0]
    await scores.awards.publisher.drain()
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.outbox") == 1

    scores.actions.unavailable = False
    await scores.awards.relay.work(1)

    assert scores.actions.settled == [(answer.action_id, True)]
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


async def test_an_award_that_path_and_relay_acknowledge_keeps_the_first_receipt(
    scores: Scores,
) -> None:
    scores.actions.unavailable = True
    answer = (await scores.award(item(ADA)))[0]
    await scores.awards.publisher.drain()
    (outstanding,) = await scores.awards.ledger.outstanding(after_s=0)

    for settled in (False, True, True):
        await scores.awards.ledger.acknowledge(
            [(outstanding.seq, outstanding.event_id, Receipt(rank=9, old_rank=9))],
            settled=settled,
        )

    assert (await scores.awards.ledger.receipts([answer.action_id]))[answer.action_id].rank == 1
    assert await scores.awards.ledger.outstanding(after_s=0) == []


async def test_the_relay_brings_a_board_up_to_the_ledger(scores: Scores) -> None:
    """A process killed between the ledger and the board leaves a row in the outbox only."""
    claim = item(ADA, 50)
    await scores.award(claim)
    await scores.awards.publisher.drain()
    await scores.admin.execute(
        """
        INSERT INTO scores.outbox (seq, kind, event_id, user_id, username, version, action_type,
                                   points, old_score, new_score, hidden, at)
        SELECT seq, 'award', action_id, user_id, 'ada', version, action_type, points, old_score,
               new_score, false, at
        FROM scores.ledger
        """
    )
    await scores.admin.execute("TRUNCATE scores.receipts")
    for known in scores.registry.all():
        for period in known.open():
            token = await scores.upkeep.redis_boards.begin(period, wipe=True)
            assert await scores.upkeep.redis_boards.finish(period, token)

    await scores.awards.relay.work(1)

    assert [(e.user_id, e.score) for e in (await _top(scores)).entries] == [(ADA, 50)]
    receipts = await scores.pool.fetch("SELECT rank FROM scores.receipts")
    assert [r["rank"] for r in receipts] == [1]


async def test_a_newer_name_is_shown_and_an_older_one_is_not(scores: Scores) -> None:
    for name, version in (("ada", 1), ("lovelace", 3), ("byron", 2)):
        await scores.award(item(ADA, username=name, name_version=version))

    async def shown() -> bool:
        return [e.username for e in (await _top(scores)).entries] == ["lovelace"]

    await eventually(shown)


async def test_names_that_redis_lost_are_read_from_the_ledgers_side(scores: Scores) -> None:
    await scores.award(item(ADA, username="ada"))
    await scores.redis.delete("leaderboard:{names}")

    assert [e.username for e in (await _top(scores)).entries] == ["ada"]
    assert await scores.redis.hlen("leaderboard:{names}") == 1


async def test_a_hidden_player_plays_on_unseen(scores: Scores) -> None:
    await scores.award(item(ADA, 50), item(BOB, 40))
    await scores.admin.execute("UPDATE scores.players SET hidden = true WHERE user_id = $1", ADA)

    held = (await scores.award(item(ADA, 50)))[0]

    assert (held.new_score, held.held, held.HasField("rank")) == (100, True, False)
    assert list(held.warnings) == []
    assert [e.user_id for e in (await _top(scores)).entries] == [BOB]
    await scores.admin.execute("UPDATE scores.players SET hidden = false WHERE user_id = $1", ADA)
    assert (await scores.award(item(ADA, 1)))[0].rank == 1


async def test_the_same_ids_of_two_players_at_once_never_deadlock(scores: Scores) -> None:
    """Their locks do not meet, so the primary key decides; the loser repeats its batch."""
    states: list[str] = []
    await scores.award(item(ADA, 1), item(BOB, 1))

    async def write(user: str, actions: list[str]) -> None:
        n = len(actions)
        try:
            await scores.pool.fetch(
                "SELECT ord FROM scores.award($1, $2, $3, $4, $5, $6, $7, $8, interval '0')",
                actions,
                [user] * n,
                ["WIN_GAME"] * n,
                [1] * n,
                actions,
                [None] * n,
                [None] * n,
                [None] * n,
            )
        except asyncpg.PostgresError as error:
            states.append(error.sqlstate)

    for _ in range(30):
        actions = [uuid7() for _ in range(64)]
        await asyncio.gather(write(ADA, actions), write(BOB, actions[::-1]))

    assert set(states) <= {"23505"}
    assert await _ledger_sum(scores, ADA) + await _ledger_sum(scores, BOB) == 30 * 64 + 2


async def test_more_items_than_a_batch_holds_are_refused(scores: Scores) -> None:
    with pytest.raises(Failed, match="BATCH_TOO_LARGE"):
        await scores.award(*(item(ADA) for _ in range(257)))


async def test_the_ledger_refuses_updates_and_deletions(scores: Scores) -> None:
    await scores.award(item(ADA))
    for statement in (
        "UPDATE scores.ledger SET points = 1",
        "DELETE FROM scores.ledger",
    ):
        with pytest.raises(Exception, match="permission denied"):
            await scores.pool.execute(statement)
        with pytest.raises(Exception, match="insert-only"):
            await scores.admin.execute(statement)


async def test_daily_weekly_and_monthly_boards_begin_again(scores: Scores) -> None:
    monday = _until("2031-06-02T12:00:00+00:00")  # a Monday; the next day is in the same week
    with clock.ahead(monday):
        await scores.awards.ledger.make_partitions()
        await scores.award(item(ADA, 50))
        kept_ms = await scores.redis.pttl("leaderboard:{daily:20310602T000000Z}")
        with clock.ahead(24 * 3600):
            await _complete(scores)
            await scores.award(item(ADA, 7))
            tops = [await _top(scores, board) for board in ("daily", "weekly", "monthly")]
        with clock.ahead(31 * 24 * 3600):
            await _complete(scores)
            await scores.award(item(ADA, 1))
            later = [
                await _top(scores, board) for board in ("daily", "weekly", "monthly", "all_time")
            ]

    assert [[e.score for e in top.entries] for top in tops] == [[7], [57], [57]]
    assert 24 * 3600 < kept_ms / 1000 < 2 * 24 * 3600
    assert [top.period for top in tops] == [
        "20310603T000000Z",
        "20310602T000000Z",
        "20310601T000000Z",
    ]
    assert [[e.score for e in top.entries] for top in later] == [[1], [1], [1], [58]]
    kept = await scores.pool.fetch(
        "SELECT s.board, s.period, s.score FROM scores.standings s ORDER BY 1, 2"
    )
    assert [(row["board"], moment(row["period"]).day, row["score"]) for row in kept] == [
        ("daily", 2, 50),
        ("daily", 3, 7),
        ("monthly", 1, 57),
        ("weekly", 2, 57),
    ]


async def _complete(scores: Scores) -> None:
    await scores.registry.refresh()
    await scores.upkeep.rebuild.work()


def _until(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() - clock.now().timestamp()
