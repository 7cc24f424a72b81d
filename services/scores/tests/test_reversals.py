"""Voids and restores: compensating rows, chunk by chunk, and boards that follow at once."""

from typing import Any

import pytest

from chassis.errors import Failed
from chassis.ids import uuid7
from protos import events_pb2, scores_pb2
from services.scores.tests.conftest import Scores, item

ADA, BOB = uuid7(), uuid7()
VOID, RESTORE = scores_pb2.ReverseRequest.VOID, scores_pb2.ReverseRequest.RESTORE


async def reverse(
    scores: Scores, kind: "scores_pb2.ReverseRequest.Kind" = VOID, **fields: Any
) -> scores_pb2.ReverseReply:
    request = {"user_id": ADA, "reason": "a bug", "actor": "mod", **fields}
    reply: scores_pb2.ReverseReply = await scores.stub.Reverse(
        scores_pb2.ReverseRequest(kind=kind, **request)
    )
    return reply


async def board(scores: Scores, name: str = "all_time") -> list[tuple[str, int]]:
    reply = await scores.stub.Top(
        scores_pb2.TopRequest(items=[scores_pb2.TopItem(board=name, limit=100)])
    )
    return [(e.user_id, e.score) for e in reply.results[0].top.entries]


async def test_a_void_compensates_and_a_restore_brings_back_the_very_same_board(
    scores: Scores,
) -> None:
    first = (await scores.award(item(ADA, 30), item(ADA, 20), item(BOB, 50)))[0]
    before = await board(scores)

    voided = await reverse(scores, action_ids=[first.action_id])

    assert [(r.kind, r.origin_id, r.points, r.new_score) for r in voided.rows] == [
        ("void", first.action_id, -30, 20)
    ]
    assert (voided.old_score, voided.new_score, voided.more) == (50, 20, False)
    assert await board(scores) == await board(scores, "daily") == [(BOB, 50), (ADA, 20)]

    restored = await reverse(scores, RESTORE, action_ids=[first.action_id])

    assert (restored.old_score, restored.new_score) == (20, 50)
    assert await board(scores) == before == [(ADA, 50), (BOB, 50)]
    unpublished = "SELECT count(*) FROM scores.outbox WHERE kind <> 'award'"
    assert await scores.pool.fetchval(unpublished) == 0


async def test_a_void_and_a_restore_are_audited_a_dry_run_is_not(
    scores: Scores, logged: list[Any]
) -> None:
    await scores.award(item(ADA, 30), item(ADA, 20))

    await reverse(scores, dry_run=True)
    await reverse(scores, reason="what people wrote")
    await reverse(scores, RESTORE)

    lines = [line for line in logged if line["stream"] == "audit"]
    assert [(x["event"], x["rows"], x["points"], x["actor"], x["user_id"]) for x in lines] == [
        ("awards_voided", 2, -50, "mod", ADA),
        ("awards_restored", 2, 50, "mod", ADA),
    ]
    assert "what people wrote" not in repr(logged)


async def test_who_has_no_award_in_force_is_not_on_the_boards(scores: Scores) -> None:
    await scores.award(item(ADA, 30), item(BOB, 50))

    await reverse(scores)

    assert await board(scores) == [(BOB, 50)]
    assert (await reverse(scores)).rows == []


async def test_a_dry_run_returns_the_same_and_changes_nothing(scores: Scores) -> None:
    await scores.award(item(ADA, 30), item(ADA, 20))

    dry = await reverse(scores, dry_run=True)

    assert await board(scores) == [(ADA, 50)]
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.ledger") == 2
    wet = await reverse(scores)
    assert (dry.dry_run, wet.dry_run) == (True, False)
    assert [(r.origin_id, r.points, r.new_score) for r in dry.rows] == [
        (r.origin_id, r.points, r.new_score) for r in wet.rows
    ]


async def test_more_than_a_thousand_awards_are_voided_chunk_by_chunk(scores: Scores) -> None:
    for _ in range(4):
        await scores.award(*(item(ADA, 1) for _ in range(251)))

    dry = await reverse(scores, dry_run=True)
    first = await reverse(scores)
    second = await reverse(scores)

    assert (len(dry.rows), dry.more) == (1000, True)
    assert (len(first.rows), first.more, first.new_score) == (1000, True, 4)
    assert (len(second.rows), second.more, second.new_score) == (4, False, 0)
    assert await board(scores) == []


async def test_exactly_a_thousand_leave_no_more(scores: Scores) -> None:
    for _ in range(4):
        await scores.award(*(item(ADA, 1) for _ in range(250)))

    replies = [await reverse(scores, dry_run=True), await reverse(scores)]

    assert [(len(reply.rows), reply.more) for reply in replies] == [(1000, False)] * 2


async def test_only_the_awards_of_the_time_given_are_voided(scores: Scores) -> None:
    answers = [(await scores.award(item(ADA, 10 + i)))[0] for i in range(3)]
    await scores.admin.execute("ALTER TABLE scores.ledger DISABLE TRIGGER insert_only")
    for i, answer in enumerate(answers):
        await scores.admin.execute(
            "UPDATE scores.ledger SET at = to_timestamp($1) WHERE action_id = $2",
            1000 + i,
            answer.action_id,
        )
    await scores.admin.execute("ALTER TABLE scores.ledger ENABLE TRIGGER insert_only")

    dry = await reverse(scores, from_ms=1_001_000, to_ms=1_002_000, dry_run=True)

    assert [r.origin_id for r in dry.rows] == [answers[1].action_id]


async def test_reversals_are_published_to_the_stream(scores: Scores) -> None:
    answer = (await scores.award(item(ADA, 30), item(BOB, 1)))[0]
    await scores.awards.publisher.drain()
    reply = await reverse(scores)

    entries: Any = await scores.redis.xrange("{events}:awards")
    batch = events_pb2.ScoreEvents.FromString(entries[-1][1][b"batch"])
    (event,) = batch.events

    assert event.kind == events_pb2.ScoreEvent.VOID
    assert (event.event_id, event.origin_id) == (reply.rows[0].action_id, answer.action_id)
    assert (event.points, event.new_score, event.version) == (-30, 0, 2)
    assert event.old_rank == 1
    assert not event.HasField("rank")
    assert set(batch.boards) == {"all_time", "daily", "weekly", "monthly"}


async def test_a_reversal_while_redis_is_unavailable_is_published_by_the_relay(
    scores: Scores,
) -> None:
    await scores.award(item(ADA, 30))
    await scores.awards.publisher.drain()
    await scores.redis.config_set("maxmemory", "1")
    try:
        reply = await reverse(scores)
    finally:
        await scores.redis.config_set("maxmemory", "0")
    assert reply.new_score == 0

    await scores.awards.relay.work(1)

    assert await board(scores) == []
    assert await scores.pool.fetchval("SELECT count(*) FROM scores.outbox") == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"actor": ""}, "actor"),
        ({"actor": "x" * 501}, "actor"),
        ({"user_id": "nobody"}, "userId"),
        ({"action_ids": ["one"]}, "actionIds"),
        ({"action_ids": [ADA] * 1001}, "actionIds"),
        ({"from_ms": 2, "to_ms": 2}, "to"),
        ({"from_ms": -1}, "to"),
        ({"to_ms": 2**62}, "to"),
    ],
)
async def test_an_order_that_does_not_fit_is_refused_by_its_field(
    scores: Scores, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(Failed, match="VALIDATION_FAILED") as refused:
        await reverse(scores, **fields)
    assert [error.field for error in refused.value.errors] == [field]


async def test_a_reversal_of_an_unknown_player_is_refused(scores: Scores) -> None:
    with pytest.raises(Failed, match="PLAYER_NOT_FOUND"):
        await reverse(scores)


async def test_a_restore_beyond_what_a_score_can_be_is_refused(scores: Scores) -> None:
    big = (await scores.award(item(ADA, 2**53 - 10)))[0]
    await reverse(scores)
    await scores.award(item(ADA, 100))

    with pytest.raises(Failed, match="SCORE_OUT_OF_RANGE"):
        await reverse(scores, RESTORE, action_ids=[big.action_id])
    assert await board(scores) == [(ADA, 100)]
