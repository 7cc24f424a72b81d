"""Reads while Redis is unavailable: from Postgres, marked, and never older than shown before."""

from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from typing import Any

import pytest
from asyncpg import Record
from redis.exceptions import RedisError

from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.redis import open_redis
from chassis.testing import Certificates, eventually
from protos import scores_pb2
from services.scores.boards.rules import ALL_TIME, Period
from services.scores.reads import degraded
from services.scores.tests import model
from services.scores.tests.model import Reader
from services.scores.tests.scores_served import Scores, item, open_scores

OwnRedis = Callable[[], AbstractContextManager[str]]


async def test_reads_go_on_while_redis_is_unavailable_and_until_the_boards_are_complete_again(
    scores_database: dict[str, str], own_redis: OwnRedis, certificates: Certificates
) -> None:
    players = [uuid7() for _ in range(12)]
    async with AsyncExitStack() as stack:
        with own_redis() as url:
            redis = await stack.enter_async_context(open_redis(url, timeout_s=0.5))
            scores = await stack.enter_async_context(
                open_scores(scores_database, redis, certificates)
            )
            await scores.award(*(item(p, 10 + i // 2) for i, p in enumerate(players)))
        board = scores.registry.get(ALL_TIME).board
        lines = await model.lines(scores.pool, board)

        await Reader(scores, board, degraded=True).agrees(lines, absent=uuid7())

        with own_redis():

            async def answers() -> bool:
                with suppress(RedisError):
                    return bool(await redis.ping())
                return False

            await eventually(answers)
            # There again, and empty.
            await Reader(scores, board, degraded=True).agrees(lines, absent=uuid7())
            await scores.upkeep.rebuild.work()

            async def live() -> bool:
                return not (await Reader(scores, board).top(fresh=True)).degraded

            await eventually(live)
            await Reader(scores, board).agrees(lines, absent=uuid7())


async def test_a_board_that_is_being_rebuilt_is_read_from_one_snapshot(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That Redis lacks a board is no change which would make a snapshot old."""
    await scores.award(item(uuid7(), 5))
    taken = 0

    async def take(*arguments: Any, **options: Any) -> list[Record]:
        nonlocal taken
        taken += 1
        return await made(*arguments, **options)

    made = scores.reads.degraded._snapshots.take
    monkeypatch.setattr(scores.reads.degraded._snapshots, "take", take)
    board = scores.registry.get(ALL_TIME).board
    await scores.upkeep.redis_boards.begin(Period(board, 0, None), wipe=True)

    for _ in range(5):
        assert (await Reader(scores, board).top(fresh=True)).degraded

    assert taken == 1


async def test_with_both_stores_unavailable_every_read_says_so(scores: Scores) -> None:
    await scores.award(item(player := uuid7(), 5))
    for known in scores.registry.all():
        await scores.upkeep.redis_boards.begin(known.periods[0], wipe=False)
    await scores.awards.publisher.drain()
    await scores.pool.close()

    top = await scores.stub.Top(
        scores_pb2.TopRequest(items=[scores_pb2.TopItem(board=ALL_TIME, limit=1, fresh=True)])
    )
    around = await scores.stub.Around(
        scores_pb2.AroundRequest(items=[scores_pb2.AroundItem(board=ALL_TIME, user_id=player)])
    )

    assert top.results[0].failure.code == "BOARDS_UNAVAILABLE"
    assert around.results[0].failure.code == "BOARDS_UNAVAILABLE"
    would_be = await scores.stub.WouldBe(
        scores_pb2.WouldBeRequest(items=[scores_pb2.WouldBeItem(board=ALL_TIME, score=1)])
    )
    assert would_be.results[0].failure.code == "BOARDS_UNAVAILABLE"
    with pytest.raises(Failed, match="BOARDS_UNAVAILABLE"):
        await scores.stub.Ranks(scores_pb2.RanksRequest(board=ALL_TIME, user_ids=[player]))


async def test_beyond_the_places_of_a_snapshot_nothing_is_guessed(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degraded, "PLACES", 5)
    players = [uuid7() for _ in range(9)]
    await scores.award(*(item(p, 50 - i) for i, p in enumerate(players)))
    board = scores.registry.get(ALL_TIME).board
    await scores.upkeep.redis_boards.begin(Period(board, 0, None), wipe=False)

    async def around(user: str, radius: int) -> str:
        request = scores_pb2.AroundItem(board=ALL_TIME, user_id=user, radius=radius)
        reply = await scores.stub.Around(scores_pb2.AroundRequest(items=[request]))
        code: str = reply.results[0].failure.code
        return code

    async def ranks(*users: str) -> list[int]:
        request = scores_pb2.RanksRequest(board=ALL_TIME, user_ids=users)
        return [entry.rank for entry in (await scores.stub.Ranks(request)).entries]

    async def would_be(*at: int) -> list[int | str]:
        request = [scores_pb2.WouldBeItem(board=ALL_TIME, score=score) for score in at]
        reply = await scores.stub.WouldBe(scores_pb2.WouldBeRequest(items=request))
        return [result.failure.code or result.would_be.rank for result in reply.results]

    top = await Reader(scores, board).top(limit=5, fresh=True)
    assert ([e.user_id for e in top.entries], top.total, top.degraded) == (players[:5], 9, True)
    beyond = scores_pb2.TopItem(board=ALL_TIME, limit=1, cursor=top.next_cursor)
    page = await scores.stub.Top(scores_pb2.TopRequest(items=[beyond]))
    assert page.results[0].failure.code == "BOARDS_UNAVAILABLE"
    assert [await around(p, 1) for p in players[3:6]] == [
        "",
        "BOARDS_UNAVAILABLE",
        "BOARDS_UNAVAILABLE",
    ]
    assert await around(uuid7(), 1) == "NOT_RANKED"
    assert await ranks(uuid7(), players[4], players[0]) == [5, 1]
    with pytest.raises(Failed, match="BOARDS_UNAVAILABLE"):
        await ranks(players[0], players[5])
    assert await would_be(46, 47) == ["BOARDS_UNAVAILABLE", 5]


async def test_after_a_degraded_read_redis_answers_only_when_it_has_all_of_it(
    scores: Scores,
) -> None:
    board = scores.registry.get(ALL_TIME).board
    await scores.award(item(player := uuid7(), 5))
    await scores.awards.publisher.drain()
    token = await scores.upkeep.redis_boards.begin(Period(board, 0, None), wipe=False)
    before = await Reader(scores, board).top(fresh=True)
    assert before.degraded
    await scores.upkeep.redis_boards.finish(Period(board, 0, None), token)
    # As if the version of Redis were an older one: it was unavailable, not empty.
    await scores.redis.hset("leaderboard:{all_time}:meta", "version", 1)
    # A change that the degraded read has shown, and Redis does not have.
    await scores.admin.execute(
        """
        INSERT INTO scores.outbox (seq, kind, event_id, user_id, username, version, action_type,
                                   points, old_score, new_score, hidden, at)
        SELECT seq, 'award', action_id, user_id, 'ada', version, action_type, points, old_score,
               new_score, false, at
        FROM scores.ledger
        """
    )

    async def around() -> scores_pb2.Place:
        request = scores_pb2.AroundItem(board=ALL_TIME, user_id=player)
        reply = await scores.stub.Around(scores_pb2.AroundRequest(items=[request]))
        place: scores_pb2.Place = reply.results[0].place
        return place

    assert (await around()).degraded
    behind = await Reader(scores, board).top(version_min=before.version)
    assert behind.degraded
    assert behind.version >= before.version

    await scores.admin.execute("TRUNCATE scores.outbox")

    async def level() -> scores_pb2.Top | None:
        top = await Reader(scores, board).top(version_min=behind.version)
        return None if top.degraded else top

    found = await eventually(level)
    assert found
    assert found.version >= behind.version
    assert not (await around()).degraded
    # What no one was ever shown is not believed.
    future = await Reader(scores, board).top(version_min=2**53)
    assert (future.version, future.degraded) == (found.version, False)


async def test_a_version_that_another_process_has_shown_is_waited_for(scores: Scores) -> None:
    board = scores.registry.get(ALL_TIME).board
    await scores.award(item(uuid7(), 5))
    await scores.awards.publisher.drain()
    shown = (await Reader(scores, board).top(fresh=True)).version + 1

    top = await Reader(scores, board).top(version_min=shown)

    # Nothing is outstanding, so Redis has all of it, and says so by its version from now on.
    assert (top.version, top.degraded) == (shown, False)
    assert (await Reader(scores, board).top(fresh=True)).version == shown


async def test_reads_come_from_postgres_while_redis_refuses_writes(
    scores_database: dict[str, str], own_redis: OwnRedis, certificates: Certificates
) -> None:
    """Redis returns what it has, without the award that it refused."""
    with own_redis() as url:
        async with (
            open_redis(url) as redis,
            open_scores(scores_database, redis, certificates) as scores,
        ):
            await scores.award(item(uuid7(), 5))
            board = scores.registry.get(ALL_TIME).board
            await Reader(scores, board).agrees(
                await model.lines(scores.pool, board), absent=uuid7()
            )

            await redis.config_set("min-replicas-to-write", 1)
            (award,) = await scores.award(item(uuid7(), 7))
            lines = await model.lines(scores.pool, board)

            assert list(award.warnings) == ["RANK_UNAVAILABLE"]
            await Reader(scores, board, degraded=True).agrees(lines, absent=uuid7())

            await redis.config_set("min-replicas-to-write", 0)
            await scores.awards.relay.work(1)

            async def live() -> bool:
                return not (await Reader(scores, board).top(fresh=True)).degraded

            await eventually(live)
            await Reader(scores, board).agrees(lines, absent=uuid7())
