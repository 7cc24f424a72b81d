"""The boards: exact ranks, exact order among equals, places and neighbours."""

import asyncio
from dataclasses import replace

import pytest

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.testing import eventually
from protos import scores_pb2
from services.scores.tests.conftest import Scores, item
from services.scores.upkeep.redis_boards import entry

LARGEST = 2**53 - 1


async def _top(scores: Scores, limit: int = 100, board: str = "all_time") -> scores_pb2.Top:
    reply = await scores.stub.Top(
        scores_pb2.TopRequest(items=[scores_pb2.TopItem(board=board, limit=limit)])
    )
    top: scores_pb2.Top = reply.results[0].top
    return top


async def _degraded(scores: Scores) -> bool:
    return (await _top(scores)).degraded


async def _around(scores: Scores, user: str, radius: int) -> scores_pb2.AroundResult:
    reply = await scores.stub.Around(
        scores_pb2.AroundRequest(
            items=[scores_pb2.AroundItem(board="all_time", user_id=user, radius=radius)]
        )
    )
    result: scores_pb2.AroundResult = reply.results[0]
    return result


async def _sql_order(scores: Scores) -> list[tuple[str, int]]:
    rows = await scores.pool.fetch(
        "SELECT user_id, total FROM scores.players ORDER BY total DESC, reached_seq"
    )
    return [(str(row["user_id"]), row["total"]) for row in rows]


@pytest.mark.parametrize("score", [50, LARGEST])
async def test_equal_scores_rank_by_who_reached_them_first(scores: Scores, score: int) -> None:
    players = [uuid7() for _ in range(6)]
    for player in players[3:]:
        await scores.award(item(player, score))
    # In one batch, and out of the order of their ids.
    await scores.award(*(item(player, score) for player in reversed(players[:3])))

    top = await _top(scores)

    expected = [*players[3:], *reversed(players[:3])]
    assert [(e.user_id, e.rank, e.score) for e in top.entries] == [
        (player, place, score) for place, player in enumerate(expected, 1)
    ]
    assert await _sql_order(scores) == [(player, score) for player in expected]
    places = [(await _around(scores, player, 0)).place.rank for player in expected]
    assert places == [1, 2, 3, 4, 5, 6]


async def test_a_player_who_leaves_and_returns_to_a_score_stands_behind(scores: Scores) -> None:
    first, second = uuid7(), uuid7()
    await scores.award(item(first, 40), item(second, 50))
    await scores.award(item(first, 10))

    assert [e.user_id for e in (await _top(scores)).entries] == [second, first]


async def test_ranks_equal_sql_after_many_concurrent_awards(scores: Scores) -> None:
    players = [uuid7() for _ in range(40)]
    batches = [
        [item(players[(7 * i + j) % 40], 1 + (i + j) % 3) for j in range(20)] for i in range(25)
    ]

    await asyncio.gather(*(scores.award(*batch) for batch in batches))

    order = await _sql_order(scores)
    assert [(e.user_id, e.score) for e in (await _top(scores)).entries] == order
    reply = await scores.stub.Ranks(scores_pb2.RanksRequest(board="all_time", user_ids=players))
    assert {e.user_id: e.rank for e in reply.entries} == {
        user: rank for rank, (user, _) in enumerate(order, 1)
    }


async def test_a_place_shows_neighbours_points_to_next_and_how_many_are_behind(
    scores: Scores,
) -> None:
    players = [uuid7() for _ in range(5)]
    await scores.award(*(item(p, 100 - 10 * i) for i, p in enumerate(players)))

    place = (await _around(scores, players[2], 1)).place
    first = (await _around(scores, players[0], 1)).place

    assert (place.rank, place.score, place.total, place.behind) == (3, 80, 5, 2)
    assert place.points_to_next == 11  # an equal score, reached later, would stay behind
    assert [e.user_id for e in place.neighbours] == players[1:4]
    assert [e.rank for e in place.neighbours] == [2, 3, 4]
    assert not first.HasField("points_to_next")
    assert [e.user_id for e in first.neighbours] == players[:2]


async def test_who_is_not_ranked_and_what_is_no_board_fail_alone(scores: Scores) -> None:
    await scores.award(item(player := uuid7()))
    reply = await scores.stub.Around(
        scores_pb2.AroundRequest(
            items=[
                scores_pb2.AroundItem(board="all_time", user_id=uuid7()),
                scores_pb2.AroundItem(board="nowhere", user_id=player),
                scores_pb2.AroundItem(board="all_time", user_id=player),
            ]
        )
    )

    assert [r.failure.code for r in reply.results] == ["NOT_RANKED", "BOARD_NOT_FOUND", ""]
    assert reply.results[2].place.rank == 1
    with pytest.raises(Failed, match="BOARD_NOT_FOUND"):
        await scores.stub.Ranks(scores_pb2.RanksRequest(board="nowhere"))


async def test_the_version_rises_with_every_change(scores: Scores) -> None:
    await scores.award(*(item(uuid7(), 1 + i) for i in range(3)))
    before = await _top(scores, limit=2)
    await scores.award(item(uuid7(), 1))
    after = await _top(scores, limit=1)

    assert (len(before.entries), before.total) == (2, 3)
    assert (len(after.entries), after.total) == (1, 4)
    assert after.version > before.version
    assert before.entries[0].reached_at_ms > 0


async def test_a_board_that_never_changed_has_no_time_of_its_last_change(scores: Scores) -> None:
    (period,) = scores.registry.get("all_time").periods

    assert not (await _top(scores)).HasField("updated_at_ms")
    await scores.upkeep.redis_boards.begin(period, wipe=False)
    await eventually(lambda: _degraded(scores))
    assert not (await _top(scores)).HasField("updated_at_ms")


async def test_a_board_built_again_changed_when_its_newest_score_was_reached(
    scores: Scores,
) -> None:
    await scores.award(item(uuid7()), item(uuid7()))
    with clock.ahead(1):
        (last,) = await scores.award(item(uuid7()))
    await scores.redis.flushall()
    await scores.upkeep.rebuild.work()

    assert (await _top(scores)).updated_at_ms == last.at_ms
    await scores.upkeep.redis_boards.begin(scores.registry.get("all_time").periods[0], wipe=False)
    await eventually(lambda: _degraded(scores))
    assert (await _top(scores)).updated_at_ms == last.at_ms


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Top", scores_pb2.TopRequest(items=[scores_pb2.TopItem()] * 257)),
        ("Around", scores_pb2.AroundRequest(items=[scores_pb2.AroundItem()] * 257)),
        ("Ranks", scores_pb2.RanksRequest(board="all_time", user_ids=["x"] * 201)),
    ],
)
async def test_more_than_a_read_may_request_is_refused(
    scores: Scores, method: str, request_: object
) -> None:
    with pytest.raises(Failed, match="BATCH_TOO_LARGE"):
        await getattr(scores.stub, method)(request_)


async def test_boards_show_their_rules(scores: Scores) -> None:
    boards = (await scores.stub.Boards(scores_pb2.BoardsRequest())).boards

    assert [(b.board, b.reset) for b in boards] == [
        ("all_time", "none"),
        ("daily", "day"),
        ("weekly", "week"),
        ("monthly", "month"),
    ]
    assert [b.HasField("resets_at_ms") for b in boards] == [False, True, True, True]


async def test_a_board_is_complete_only_by_the_building_that_was_begun_last(
    scores: Scores,
) -> None:
    (period,) = scores.registry.get("all_time").periods
    first = await scores.upkeep.redis_boards.begin(period, wipe=False)
    second = await scores.upkeep.redis_boards.begin(period, wipe=False)

    assert not await scores.upkeep.redis_boards.finish(period, first)
    assert not await scores.upkeep.redis_boards.ready(period)
    (award,) = await scores.award(item(uuid7()))
    assert not award.HasField("rank")
    assert list(award.warnings) == ["RANK_UNAVAILABLE"]
    assert await scores.upkeep.redis_boards.finish(period, second)
    assert (await scores.award(item(uuid7())))[0].rank == 2

    third = await scores.upkeep.redis_boards.begin(period, wipe=False)
    await scores.redis.flushall()
    assert not await scores.upkeep.redis_boards.finish(period, third)


async def test_a_period_is_complete_by_itself_only_before_it_begins(scores: Scores) -> None:
    known = scores.registry.get("daily")
    now = known.at(clock.now_ms())
    assert now
    later = next(p for p in known.periods if p.start_ms > now.start_ms)
    await scores.redis.flushall()

    assert not await scores.upkeep.redis_boards.prepare(now)
    assert await scores.upkeep.redis_boards.prepare(later)

    assert not await scores.upkeep.redis_boards.ready(now)
    assert await scores.upkeep.redis_boards.ready(later)
    left_ms = await scores.redis.pttl(f"leaderboard:{{daily:{later.id}}}:ready")
    assert later.end_ms
    assert abs(clock.now_ms() + left_ms - later.end_ms - 24 * 3600 * 1000) < 10_000


async def test_a_player_named_twice_in_one_call_ends_where_the_newest_says(scores: Scores) -> None:
    player = uuid7()
    await scores.award(item(player, 10))
    standings = await scores.boards.store.of([player])
    daily = next(standing for standing in standings if standing.board == "daily")
    assert daily.seq
    up = replace(daily, version=daily.version + 1, seq=daily.seq + 1, score=20)
    back = replace(daily, version=daily.version + 2, score=30)

    await scores.boards.places.place([up, back, up])

    period = scores.registry.find("daily", daily.period)
    assert period
    assert await scores.upkeep.redis_boards.first(period, 10) == [entry(period, back)]
    (state,) = await scores.upkeep.redis_boards.states(period, [player])
    assert state
    assert (state.version, state.score, state.seq) == (back.version, 30, back.seq)
