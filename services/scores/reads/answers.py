"""The replies to reads of boards, as they cross gRPC."""

from collections.abc import Iterable

from chassis import clock
from chassis.errors import Failed, to_proto
from protos import scores_pb2
from services.scores.boards.ranking import Entry, Page, Place, Seal, WouldBe
from services.scores.boards.rules import Known, Period


def board(known: Known) -> scores_pb2.Board:
    """A board's rules, and when its present period ends."""
    rules = known.board
    period = known.at(clock.now_ms())
    return scores_pb2.Board(
        board=rules.name,
        title=rules.title,
        operator=rules.operator.value,
        order=rules.order.value,
        ties=rules.ties.value,
        reset=rules.every.value,
        window=rules.window,
        public=rules.public,
        resets_at_ms=period.end_ms if period else None,
        reset_at=rules.reset_at,
        zone=rules.zone,
        action_types=rules.action_types,
    )


def top(period: Period, page: Page, cursor: str) -> scores_pb2.Top:
    """A page of a board, and the cursor of the next one; empty: there is none."""
    return scores_pb2.Top(
        board=period.board.name,
        period=period.id,
        entries=entries(page.entries),
        total=page.total,
        updated_at_ms=page.updated_at_ms,
        degraded=page.degraded,
        resets_at_ms=period.end_ms,
        version=page.version,
        next_cursor=cursor,
        seal=_seal(page.seal) if page.seal else None,
    )


def around(period: Period, user_id: str, found: Place | Failed) -> scores_pb2.AroundResult:
    """A player's place, or why it cannot be read."""
    if isinstance(found, Failed):
        return scores_pb2.AroundResult(failure=to_proto(found))
    place = scores_pb2.Place(
        board=period.board.name,
        period=period.id,
        user_id=user_id,
        rank=found.rank,
        score=found.score,
        total=found.total,
        behind=found.behind,
        points_to_next=found.points_to_next,
        neighbours=entries(found.neighbours),
        degraded=found.degraded,
        version=found.version,
        board_version=found.board_version,
    )
    return scores_pb2.AroundResult(place=place)


def would_be(period: Period, found: WouldBe | Failed) -> scores_pb2.WouldBeResult:
    """The rank that a score would have, or why it cannot be read."""
    if isinstance(found, Failed):
        return scores_pb2.WouldBeResult(failure=to_proto(found))
    answer = scores_pb2.WouldBe(
        rank=found.rank,
        total=found.total,
        degraded=found.degraded,
        period=period.id,
        board_version=found.board_version,
    )
    return scores_pb2.WouldBeResult(would_be=answer)


def entries(found: Iterable[Entry]) -> list[scores_pb2.Entry]:
    """Rows of a board."""
    return [
        scores_pb2.Entry(
            position=entry.position,
            rank=entry.rank,
            user_id=entry.user_id,
            username=entry.username,
            score=entry.score,
            reached_at_ms=entry.reached_at_ms,
            removed=entry.removed,
        )
        for entry in found
    ]


def _seal(seal: Seal) -> scores_pb2.Seal:
    return scores_pb2.Seal(
        closed_at_ms=seal.closed_at_ms, hash=seal.hash, signature=seal.signature, key_id=seal.key_id
    )
