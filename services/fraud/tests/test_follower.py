"""The follower: fraud's own copy of the awards, each event once."""

import asyncio
from functools import partial

import asyncpg
import pytest

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database
from chassis.process import background
from chassis.redis import Redis
from chassis.testing import eventually
from protos.events_pb2 import ScoreEvent, ScoreEvents
from protos.streams import AWARDS
from services.fraud.follower import Follower
from services.fraud.store import FraudStore


@pytest.fixture
async def follower(pool: asyncpg.Pool, database: dict[str, str], redis: Redis) -> Follower:
    """One that starts at the beginning of an empty stream."""
    connection = await asyncpg.connect(database["admin"])
    await connection.execute("UPDATE fraud.positions SET entry_id = '0-0', seq = 0")
    await connection.close()
    return Follower(FraudStore(Database(pool)), redis)


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
    follower: Follower, pool: asyncpg.Pool, redis: Redis, user: str
) -> None:
    await _append(redis, _award(user, 1))
    await follower.step()
    await _append(redis, _award(user, 2))

    later = Follower(FraudStore(Database(pool)), redis)
    await asyncio.gather(later.step(), follower.step())

    assert await _copied(pool, user) == 2


async def test_only_the_replica_that_read_from_the_present_position_moves_it(
    follower: Follower, pool: asyncpg.Pool
) -> None:
    store = FraudStore(Database(pool))
    assert await store.copy([], after="0-0", upto="5-0")
    assert not await store.copy([], after="0-0", upto="4-0")
    assert await store.position() == "5-0"


async def test_a_stream_that_is_not_there_yet_is_waited_for(
    follower: Follower, pool: asyncpg.Pool, redis: Redis, user: str
) -> None:
    async with background(follower.run()):
        await follower_waits(redis)
        await _append(redis, _award(user, 1))
        await eventually(partial(_copied, pool, user))
        await redis.delete(AWARDS)
        await _append(redis, _award(user, 2))
        await eventually(partial(_both, pool, user))


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


async def _both(pool: asyncpg.Pool, user: str) -> bool:
    return await _copied(pool, user) == 2
