"""Pages of boards while players move, and what may not be requested."""

import random
from datetime import timedelta
from typing import Any

import pytest

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from protos import scores_pb2
from services.scores.awards.records import Reversal
from services.scores.boards.rules import Board, Operator, Order, Reset, Ties
from services.scores.tests import model
from services.scores.tests.model import Reader
from services.scores.tests.scores_served import Scores, item

DAY_S = 24 * 3600


@pytest.mark.parametrize("order", Order)
async def test_a_player_who_stays_is_on_exactly_one_page_while_others_move(
    scores: Scores, order: Order
) -> None:
    board = Board(name="moving", title="Moving", order=order, operator=Operator.LATEST)
    await model.add(scores, [board])
    players = [uuid7() for _ in range(60)]
    await scores.award(*(item(p, 100 + i // 4) for i, p in enumerate(players)))
    movers = set(random.Random(1).sample(players, 30))
    seen: list[str] = []
    cursor, turn = "", random.Random(2)

    while True:
        page = await Reader(scores, board).top(limit=10, cursor=cursor)
        assert not page.degraded
        seen += [entry.user_id for entry in page.entries]
        if not page.next_cursor:
            break
        cursor = page.next_cursor
        # Also the player of the cursor, and up and down over it.
        last = page.entries[-1].user_id
        moved = [*turn.sample(sorted(movers), 8), *({last} & movers)]
        await scores.award(*(item(p, turn.randint(95, 120)) for p in moved))
        await scores.award(item(uuid7(), turn.randint(95, 120)))

    stayed = [player for player in seen if player in set(players) - movers]
    assert sorted(stayed) == sorted(set(players) - movers)
    behind = stayed if order is Order.ASCENDING else stayed[::-1]
    assert [players.index(p) // 4 for p in behind] == sorted(players.index(p) // 4 for p in stayed)


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("ties", Ties)
async def test_a_page_that_begins_where_no_player_is_any_more_has_exact_ranks(
    scores: Scores, order: Order, ties: Ties
) -> None:
    board = Board(name="left", title="Left", order=order, ties=ties, operator=Operator.LATEST)
    await model.add(scores, [board])
    players = [uuid7() for _ in range(12)]
    worse = -1 if board.descending else 1
    await scores.award(*(item(p, 50 + worse * (i // 5)) for i, p in enumerate(players)))
    first = await Reader(scores, board).top(limit=7)
    # The seventh, in the middle of equal scores, goes to the very top.
    await scores.award(item(players[6], 1000 if board.descending else 1))

    page = await Reader(scores, board).top(limit=10, cursor=first.next_cursor)

    assert not page.degraded
    lines = await model.lines(scores.pool, board)
    assert [(e.user_id, e.rank) for e in page.entries] == [
        (line.user_id, line.rank) for line in lines[7:]
    ]
    assert [e.user_id for e in page.entries] == players[7:]


async def test_a_list_begun_in_a_period_is_read_to_its_end_there(scores: Scores) -> None:
    noon = (clock.now() + timedelta(days=700)).replace(hour=12)
    board = Board(name="listed", title="Listed", every=Reset.DAY)
    players = [uuid7() for _ in range(9)]
    with clock.ahead((noon - clock.now()).total_seconds()):
        await scores.awards.ledger.make_partitions()
        await model.add(scores, [board])
        await scores.award(*(item(p, 90 - i) for i, p in enumerate(players)))
        first = await Reader(scores, board).top(limit=3)
        with clock.ahead(DAY_S):
            await scores.registry.refresh()
            await scores.award(item(uuid7(), 99))
            second = await Reader(scores, board).top(limit=3, cursor=first.next_cursor)
            # Whom the cursor was made of is not in the final table.
            void = Reversal(kind="void", user_id=players[5], reason="", actor="test")
            await scores.awards.ledger.reverse(void, limit=1)
            await scores.periods.closer.work(1)
            await scores.registry.refresh()
            third = await Reader(scores, board).top(limit=3, cursor=second.next_cursor)
            other = Reader(scores, board, period=second.period)
            assert (await other.top(limit=3, cursor=second.next_cursor)) == third
            now = scores.registry.get("listed").at(clock.now_ms())
            assert now
            assert await _code(scores, board="listed", cursor=second.next_cursor, period=now.id)
    await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")

    assert {first.period, second.period, third.period} == {first.period}
    assert not third.next_cursor
    shown = [e.user_id for page in (first, second, third) for e in page.entries]
    assert shown == players
    assert third.HasField("seal")


async def _code(scores: Scores, **how: Any) -> str:
    """The code of a failed read of a page, and the field it names."""
    item = scores_pb2.TopItem(**{"board": "all_time", "limit": 3, **how})
    reply = await scores.stub.Top(scores_pb2.TopRequest(items=[item]))
    failure = reply.results[0].failure
    return " ".join([failure.code, *(error.field for error in failure.errors)])


async def test_what_may_not_be_requested_is_named(scores: Scores) -> None:
    await scores.award(*(item(uuid7(), 5) for _ in range(5)))
    await model.add(scores, [Board(name="other", title="Other")])
    board = scores.registry.get("all_time").board
    cursor = (await Reader(scores, board).top(limit=3)).next_cursor
    forged = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")

    assert await _code(scores, cursor=cursor) == ""
    assert await _code(scores, cursor=forged) == "VALIDATION_FAILED cursor"
    assert await _code(scores, cursor=cursor, board="other") == "VALIDATION_FAILED cursor"
    assert await _code(scores, limit=0) == "VALIDATION_FAILED limit"
    assert await _code(scores, limit=101, cursor=cursor) == "VALIDATION_FAILED limit"
    assert await _code(scores, period="yesterday") == "PERIOD_NOT_FOUND"
    assert await _code(scores, period="previous") == "PERIOD_NOT_FOUND"
    assert await _code(scores, period="20200101T000000Z") == "PERIOD_NOT_FOUND"
    around = scores_pb2.AroundItem(board="all_time", user_id=uuid7(), radius=51)
    reply = await scores.stub.Around(scores_pb2.AroundRequest(items=[around]))
    assert reply.results[0].failure.errors[0].field == "radius"
    items = [
        scores_pb2.WouldBeItem(board="all_time", score=score) for score in (2**53, 1, -(2**53))
    ]
    would_be = await scores.stub.WouldBe(scores_pb2.WouldBeRequest(items=items))
    fields = [[e.field for e in result.failure.errors] for result in would_be.results]
    assert fields == [["score"], [], ["score"]]


async def test_a_board_that_is_not_public_is_shown_to_players_only(scores: Scores) -> None:
    board = Board(name="inner", title="Inner", public=False)
    await model.add(scores, [board])
    await scores.award(item(player := uuid7(), 5))

    for fresh in (False, True):
        assert await _code(scores, board="inner", fresh=fresh) == ""
        assert await _code(scores, board="inner", fresh=fresh, anonymous=True) == "UNAUTHENTICATED"
    around = scores_pb2.AroundItem(board="inner", user_id=player, anonymous=True)
    reply = await scores.stub.Around(scores_pb2.AroundRequest(items=[around]))
    assert reply.results[0].failure.code == "UNAUTHENTICATED"
    score = scores_pb2.WouldBeItem(board="inner", score=1, anonymous=True)
    would_be = await scores.stub.WouldBe(scores_pb2.WouldBeRequest(items=[score]))
    assert would_be.results[0].failure.code == "UNAUTHENTICATED"
    with pytest.raises(Failed, match="UNAUTHENTICATED"):
        await scores.stub.Ranks(
            scores_pb2.RanksRequest(board="inner", user_ids=[player], anonymous=True)
        )
