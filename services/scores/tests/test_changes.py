"""The ledger as events, for readers that lost entries of the stream."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.redis import Redis
from chassis.testing import Certificates
from protos.events_pb2 import ScoreEvent, ScoreEvents
from protos.scores_pb2 import ChangesRequest, ReverseRequest
from protos.streams import AWARDS
from services.scores.boards.events import LATE_S
from services.scores.tests.crowd import crowd
from services.scores.tests.scores_served import Scores, item, open_scores

ADA, BOB = uuid7(), uuid7()
YEAR_S = 365 * 86400


@pytest.fixture
async def source(
    scores_database: Mapping[str, str], redis: Redis, certificates: Certificates
) -> AsyncIterator[Scores]:
    """The service, served to fraud."""
    async with open_scores(scores_database, redis, certificates, caller="fraud") as opened:
        yield opened


async def read(source: Scores, *, since_ms: int | None = None, limit: int = 2) -> list[ScoreEvent]:
    """All pages."""
    since_ms = clock.now_ms() if since_ms is None else since_ms
    events, cursor = list[ScoreEvent](), ""
    while True:
        reply = await source.stub.Changes(
            ChangesRequest(since_ms=since_ms, cursor=cursor, limit=limit)
        )
        events += reply.events
        cursor = reply.next_cursor
        if not cursor:
            return events


async def test_an_action_given_up_is_no_change(source: Scores) -> None:
    await source.awards.pipeline.award([item(ADA, 1)])
    await source.awards.ledger.give_up(uuid7(), ADA, "WIN_GAME")

    assert [event.kind for event in await read(source)] == [ScoreEvent.AWARD]


async def test_pages_hold_every_row_of_the_ledger_once_oldest_first_as_the_stream_had_it(
    source: Scores,
) -> None:
    awards = [item(user, points) for points in range(1, 6) for user in (ADA, BOB)]
    judged = source.awards.pipeline
    for one in awards:
        await judged.award([one])
    for kind in (ReverseRequest.VOID, ReverseRequest.RESTORE):
        await source.awards.reversals.reverse(
            ReverseRequest(kind=kind, user_id=ADA, reason="a test", actor="a test")
        )
    await source.awards.drain()

    events = await read(source)

    entries: Any = await source.redis.xrange(AWARDS)
    streamed = [e for _, f in entries for e in ScoreEvents.FromString(f[b"batch"]).events]
    for event in streamed:
        event.ClearField("rank")
        event.ClearField("old_rank")
    assert len(events) == 20
    assert events == sorted(events, key=lambda event: (event.at_ms, event.seq))
    assert sorted(map(str, events)) == sorted(map(str, streamed))


async def test_a_change_that_was_published_late_is_in_what_was_published_since(
    source: Scores,
) -> None:
    """Redis was unavailable: the relay publishes what is older than any transaction lasts."""
    await source.awards.ledger.add_players([(ADA, "ada", 1)])
    await crowd(source.admin, 1)
    old_s = 10 * LATE_S
    await source.admin.execute("ALTER TABLE scores.ledger DISABLE TRIGGER insert_only")
    await source.admin.execute(
        "UPDATE scores.ledger SET at = at - make_interval(secs => $1)", old_s
    )
    await source.admin.execute("ALTER TABLE scores.ledger ENABLE TRIGGER insert_only")
    assert await read(source) == []
    await source.admin.execute(
        "INSERT INTO scores.outbox (seq, kind, event_id, user_id, username, version, action_type,"
        " points, old_score, new_score, hidden, at) SELECT l.seq, 'award', l.action_id, l.user_id,"
        " '', l.version, l.action_type, l.points, 0, l.points, false, l.at FROM scores.ledger l"
    )

    await source.awards.relay.work(0)

    assert len(await read(source)) == 1
    assert await read(source, since_ms=clock.now_ms() + 20 * 60_000) == []


async def test_a_gap_of_years_is_passed_without_reading_it(source: Scores) -> None:
    """And a position of 0 is the whole ledger."""
    await crowd(source.admin, 50)
    await source.admin.execute("ALTER TABLE scores.ledger DISABLE TRIGGER insert_only")
    await source.admin.execute(
        "UPDATE scores.ledger SET at = at - make_interval(secs => $1 * (seq / 256 % 3))", YEAR_S
    )
    await source.admin.execute("ALTER TABLE scores.ledger ENABLE TRIGGER insert_only")

    async with asyncio.timeout(5):
        events = await read(source, since_ms=0, limit=10)

    assert len({event.event_id for event in events}) == len(events) == 50


async def test_many_rows_of_one_moment_are_paged_by_sequence(source: Scores) -> None:
    await crowd(source.admin, 25)  # of one statement, so of one time

    assert len({event.event_id for event in await read(source, limit=7)}) == 25


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("limit", ChangesRequest(limit=0)),
        ("limit", ChangesRequest(limit=1001)),
        ("since_ms", ChangesRequest(limit=1, since_ms=-1)),
        ("cursor", ChangesRequest(limit=1, cursor="12")),
        ("cursor", ChangesRequest(limit=1, cursor="9" * 40 + "-1")),
    ],
)
async def test_a_request_that_does_not_fit_is_refused_by_its_field(
    source: Scores, field: str, request_: ChangesRequest
) -> None:
    with pytest.raises(Failed) as refused:
        await source.stub.Changes(request_)

    assert [error.field for error in refused.value.errors] == [field]
