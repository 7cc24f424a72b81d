"""A player's own ledger, page by page, by cursors that no one else can make."""

import pytest

from chassis.errors import Failed
from chassis.ids import uuid7
from protos import scores_pb2
from services.scores.reads.cursors import CursorInvalid, Cursors
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import KEYS

ADA, BOB = uuid7(), uuid7()


async def page(
    scores: Scores, user_id: str = ADA, *, cursor: str = "", limit: int = 2
) -> scores_pb2.HistoryReply:
    reply: scores_pb2.HistoryReply = await scores.stub.History(
        scores_pb2.HistoryRequest(user_id=user_id, cursor=cursor, limit=limit)
    )
    return reply


async def test_pages_are_newest_first_and_stay_where_they_were_under_writes(
    scores: Scores,
) -> None:
    for points in range(1, 6):
        await scores.award(item(ADA, points), item(BOB, 100))

    seen, cursor = [], ""
    while True:
        reply = await page(scores, cursor=cursor)
        seen += [row.points for row in reply.rows]
        await scores.award(item(ADA, 50))
        cursor = reply.next_cursor
        if not cursor:
            break

    assert seen == [5, 4, 3, 2, 1]


async def test_a_history_shows_reversals_beside_awards(scores: Scores) -> None:
    award = (await scores.award(item(ADA, 30)))[0]
    await scores.stub.Reverse(scores_pb2.ReverseRequest(user_id=ADA, reason="r", actor="a"))

    rows = (await page(scores)).rows

    assert [(r.kind, r.points, r.old_score, r.new_score, r.version) for r in rows] == [
        ("void", -30, 30, 0, 2),
        ("award", 30, 0, 30, 1),
    ]
    assert rows[0].origin_id == award.action_id
    assert rows[1].at_ms == award.at_ms


async def test_a_cursor_that_was_changed_or_is_anothers_is_refused(scores: Scores) -> None:
    await scores.award(*(item(user, 1) for user in (ADA, ADA, BOB, BOB)))
    cursor = (await page(scores, limit=1)).next_cursor
    flipped = [
        ("A" if cursor[i] != "A" else "B").join((cursor[:i], cursor[i + 1 :]))
        for i in range(len(cursor))
    ]

    forged = [(ADA, one) for one in flipped]
    for user, given in (*forged, (BOB, cursor), (ADA, "nonsense"), (ADA, "*")):
        with pytest.raises(Failed, match="VALIDATION_FAILED") as refused:
            await page(scores, user, cursor=given)
        assert [error.field for error in refused.value.errors] == ["cursor"]


async def test_a_page_holds_a_hundred_rows_at_most(scores: Scores) -> None:
    await scores.award(*(item(ADA, 1) for _ in range(120)))

    reply = await page(scores, limit=1000)

    assert len(reply.rows) == 100
    assert len((await page(scores, cursor=reply.next_cursor, limit=1000)).rows) == 20


def test_a_cursor_of_one_list_is_none_of_another() -> None:
    cursors = Cursors(KEYS)
    sealed = cursors.seal("history", 7)

    assert cursors.open("history", sealed, tuple[int]) == (7,)
    with pytest.raises(CursorInvalid):
        cursors.open("page", sealed, tuple[int])
