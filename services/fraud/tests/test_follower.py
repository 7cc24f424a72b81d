"""The follower: fraud's own copy of the awards, each event once."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY

from chassis import clock
from chassis.errors import Failed, Unavailable
from chassis.ids import uuid7
from chassis.postgres import Database
from chassis.process import background
from chassis.redis import Redis
from chassis.redis.stream import Position
from chassis.testing import Certificates, eventually, served
from protos.arrows import callers
from protos.events_pb2 import ScoreEvent, ScoreEvents
from protos.scores_pb2 import ChangesReply, ChangesRequest
from protos.scores_pb2_grpc import ScoresServicer, ScoresStub, add_ScoresServicer_to_server
from protos.streams import AWARDS
from services.fraud.follower import Follower
from services.fraud.store import FraudStore, Progress


class Ledger(ScoresServicer):
    """Scores as the follower sees it: pages of what a test puts into `events`."""

    def __init__(self) -> None:
        self.events: list[ScoreEvent] = []
        self.requests: list[ChangesRequest] = []
        self.unavailable = False
        self.stub: ScoresStub  # as fraud calls it

    async def Changes(self, request: ChangesRequest, context: Any) -> ChangesReply:
        if self.unavailable:
            raise Unavailable
        self.requests.append(request)
        start = int(request.cursor or 0)
        end = start + request.limit
        more = str(end) if end < len(self.events) else ""
        return ChangesReply(events=self.events[start:end], next_cursor=more)


@pytest.fixture
async def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def scores(ledger: Ledger, certificates: Certificates) -> AsyncIterator[ScoresStub]:
    async with served(
        "scores",
        partial(add_ScoresServicer_to_server, ledger),
        certificates=certificates,
        callers=callers("scores"),
        caller="fraud",
    ) as channel:
        ledger.stub = ScoresStub(channel)
        yield ledger.stub


@pytest.fixture
async def follower(
    pool: asyncpg.Pool, database: dict[str, str], redis: Redis, scores: ScoresStub
) -> Follower:
    """One that starts at the beginning of an empty stream."""
    connection = await asyncpg.connect(database["admin"])
    await connection.execute(
        "UPDATE fraud.positions"
        " SET entry_id = '0-0', entries = 0, server = '', since_ms = NULL, cursor = ''"
    )
    await connection.close()
    return Follower(FraudStore(Database(pool)), redis, scores)


async def test_an_event_that_comes_twice_is_copied_once(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, user: str
) -> None:
    first, second = _award(user, 1), _award(user, 2)
    await _append(redis, first, second)
    await _append(redis, second, first)
    await follower.step()
    await _append(redis, first)
    await follower.step()

    rows = await pool.fetch(
        "SELECT event_id, kind, seq, version, action_type, points, old_score, new_score, at"
        " FROM fraud.events WHERE user_id = $1 ORDER BY seq",
        user,
    )

    assert [str(row["event_id"]) for row in rows] == [first.event_id, second.event_id]
    row = rows[1]
    assert (row["kind"], row["seq"], row["version"], row["action_type"]) == ("award", 2, 2, "WIN")
    assert (row["points"], row["old_score"], row["new_score"]) == (50, 50, 100)
    assert round(row["at"].timestamp() * 1000) == second.at_ms


async def test_an_event_that_comes_late_is_copied_too(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, user: str
) -> None:
    await _append(redis, _award(user, 2))
    await follower.step()
    await _append(redis, _award(user, 1))
    await follower.step()

    assert await _copied(pool, user) == 2


async def test_a_follower_goes_on_where_another_left_off(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, scores: ScoresStub, user: str
) -> None:
    await _append(redis, _award(user, 1))
    await follower.step()
    await _append(redis, _award(user, 2))

    later = Follower(FraudStore(Database(pool)), redis, scores)
    await asyncio.gather(later.step(), follower.step())

    assert await _copied(pool, user) == 2


async def test_only_the_replica_that_read_from_the_present_position_moves_it(
    follower: Follower, pool: asyncpg.Pool
) -> None:
    store = FraudStore(Database(pool))
    first, second = Progress(Position("5-0", 5, "a")), Progress(Position("5-0", 5, "a"), 7, "x")
    assert await store.copy([], after=Progress(Position()), upto=first)
    assert not await store.copy([], after=Progress(Position()), upto=Progress(Position("4-0")))
    assert await store.copy([], after=first, upto=second)
    assert not await store.copy([], after=first, upto=Progress(Position("6-0")))
    assert await store.progress() == second


async def test_a_stream_that_is_not_there_yet_is_waited_for(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, ledger: Ledger, user: str
) -> None:
    async with background(follower.run()):
        await follower_waits(redis)
        await _append(redis, _award(user, 1))
        await eventually(partial(_copied, pool, user))
    assert ledger.requests == []


async def test_what_was_in_a_stream_that_was_deleted_comes_from_the_ledger(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, ledger: Ledger, user: str
) -> None:
    """Also while nothing new is published."""
    first, second = _award(user, 1), _award(user, 2)
    await _append(redis, first)
    await follower.step()
    ledger.events = [first, second]
    await _append(redis, second)
    await redis.delete(AWARDS)

    async with background(follower.run()):
        await eventually(partial(_copied_all, pool, user, 2))
        await follower_waits(redis)
        await _append(redis, _award(user, 3))
        await eventually(partial(_copied_all, pool, user, 3))

    assert len(ledger.requests) == 1


async def test_a_catch_up_goes_on_after_a_restart_where_it_was(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, ledger: Ledger, user: str
) -> None:
    await _append(redis, _award(user, 1))
    await follower.step()
    ledger.events = [_award(user, number) for number in range(1, 3501)]
    await redis.delete(AWARDS)
    for _ in range(3):  # the loss, and two pages
        await follower.step()
    since_ms = ledger.requests[0].since_ms

    later = Follower(FraudStore(Database(pool)), redis, ledger.stub)
    ledger.unavailable = True
    with pytest.raises(Failed):
        await later.step()
    ledger.unavailable = False
    for _ in range(2):
        await later.step()

    assert [(r.since_ms, r.cursor) for r in ledger.requests] == [
        (since_ms, cursor) for cursor in ("", "1000", "2000", "3000")
    ]
    assert await _copied(pool, user) == 3501
    assert (await FraudStore(Database(pool)).progress()).since_ms is None


async def test_a_catch_up_shows_how_far_behind_it_is(
    follower: Follower, redis: Redis, ledger: Ledger, user: str
) -> None:
    await _append(redis, _award(user, 1))
    await follower.step()
    ledger.events = [_award(user, number) for number in range(1, 1501)]
    await redis.delete(AWARDS)
    await follower.step()

    def behind() -> float | None:
        return REGISTRY.get_sample_value("fraud_awards_behind_seconds")

    await follower.step()
    assert (behind() or 0) > 1_000_000_000  # the fake ledger's time is 0
    await follower.step()
    assert behind() == 0


async def test_one_of_two_replicas_copies_each_page(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, ledger: Ledger, user: str
) -> None:
    await _append(redis, _award(user, 1))
    await follower.step()
    ledger.events = [_award(user, number) for number in range(1, 5001)]
    await redis.delete(AWARDS)
    later = Follower(FraudStore(Database(pool)), redis, ledger.stub)

    async with background(follower.run(), later.run()):
        await eventually(partial(_copied_all, pool, user, 5001), timeout_s=20)


async def test_an_unreadable_entry_is_skipped(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, user: str
) -> None:
    await redis.xadd(AWARDS, {"batch": b"\xff\xff"})
    await redis.xadd(AWARDS, {"other": b""})
    stranger = _award(user, 1)
    stranger.event_id = "not an id"
    await _append(redis, stranger, _award(user, 2))

    await follower.step()

    assert await _copied(pool, user) == 1


async def follower_waits(redis: Redis) -> None:
    """Returns when a reader is blocked at the stream."""

    async def blocked() -> bool:
        info = await redis.info("clients")
        return int(info["blocked_clients"]) > 0

    await eventually(blocked)


def _award(user: str, number: int) -> ScoreEvent:
    """A player's award of that number, which is its seq too."""
    return ScoreEvent(
        event_id=uuid7(),
        seq=number,
        user_id=user,
        version=number,
        action_type="WIN",
        points=50,
        old_score=50 * (number - 1),
        new_score=50 * number,
        at_ms=clock.now_ms(),
    )


async def _append(redis: Redis, *events: ScoreEvent) -> None:
    await redis.xadd(AWARDS, {"batch": ScoreEvents(events=events).SerializeToString()})


async def _copied(pool: asyncpg.Pool, user: str) -> int:
    sql = "SELECT count(*) FROM fraud.events WHERE user_id = $1"
    return int(await pool.fetchval(sql, user))


async def _copied_all(pool: asyncpg.Pool, user: str, events: int) -> bool:
    return await _copied(pool, user) == events
