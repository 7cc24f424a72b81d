"""The calls of the scores service: check, act, answer."""

from typing import Any

import grpc

from chassis import clock
from chassis.batching import bounded
from chassis.errors import Failed, Missing, Unavailable, to_proto
from chassis.redis import AWAY
from protos import scores_pb2, scores_pb2_grpc
from services.scores.awards import Awards
from services.scores.boards import BOARDS, Board, Boards, Entry, Place, Top

TOP_MAX = 100
RADIUS_MAX = 50
RANKS_MAX = 200

Context = grpc.aio.ServicerContext[Any, Any]


class BoardNotFound(Missing):
    """There is no such board."""


class NotRanked(Missing):
    """This player is not on the board."""


class BoardsUnavailable(Unavailable):
    """The boards are away."""


class ScoresService(scores_pb2_grpc.ScoresServicer):
    """See protos/scores.proto."""

    def __init__(self, awards: Awards, boards: Boards) -> None:
        self._awards = awards
        self._boards = boards

    async def Award(
        self, request: scores_pb2.AwardRequest, context: Context
    ) -> scores_pb2.AwardReply:
        bounded(request.items)
        answers = await self._awards.award(request.items)
        return scores_pb2.AwardReply(
            results=[
                scores_pb2.AwardResult(failure=to_proto(answer))
                if isinstance(answer, Failed)
                else scores_pb2.AwardResult(award=answer)
                for answer in answers
            ]
        )

    async def Receipt(
        self, request: scores_pb2.ReceiptRequest, context: Context
    ) -> scores_pb2.Award:
        return await self._awards.receipt(request.user_id, request.action_id)

    async def Boards(
        self, request: scores_pb2.BoardsRequest, context: Context
    ) -> scores_pb2.BoardsReply:
        return scores_pb2.BoardsReply(boards=[_board(board) for board in BOARDS.values()])

    async def Top(self, request: scores_pb2.TopRequest, context: Context) -> scores_pb2.TopReply:
        bounded(request.items)
        found = [BOARDS.get(item.board) for item in request.items]
        asked = [
            (board, max(1, min(item.limit, TOP_MAX)))
            for board, item in zip(found, request.items, strict=True)
            if board
        ]
        try:
            tops = iter(await self._boards.top(asked))
        except AWAY:
            raise BoardsUnavailable from None
        return scores_pb2.TopReply(
            results=[
                scores_pb2.TopResult(top=_top(board, next(tops)))
                if board
                else scores_pb2.TopResult(failure=to_proto(BoardNotFound()))
                for board in found
            ]
        )

    async def Around(
        self, request: scores_pb2.AroundRequest, context: Context
    ) -> scores_pb2.AroundReply:
        bounded(request.items)
        found = [BOARDS.get(item.board) for item in request.items]
        asked = [
            (board, item.user_id, max(0, min(item.radius, RADIUS_MAX)))
            for board, item in zip(found, request.items, strict=True)
            if board
        ]
        try:
            places = iter(await self._boards.around(asked))
        except AWAY:
            raise BoardsUnavailable from None
        results = []
        for board, item in zip(found, request.items, strict=True):
            place = next(places) if board else None
            if board is None:
                results.append(scores_pb2.AroundResult(failure=to_proto(BoardNotFound())))
            elif place is None:
                results.append(scores_pb2.AroundResult(failure=to_proto(NotRanked())))
            else:
                results.append(scores_pb2.AroundResult(place=_place(board, item.user_id, place)))
        return scores_pb2.AroundReply(results=results)

    async def Ranks(
        self, request: scores_pb2.RanksRequest, context: Context
    ) -> scores_pb2.RanksReply:
        bounded(request.user_ids, most=RANKS_MAX)
        board = BOARDS.get(request.board)
        if board is None:
            raise BoardNotFound
        try:
            entries = await self._boards.ranks(board, request.user_ids)
        except AWAY:
            raise BoardsUnavailable from None
        return scores_pb2.RanksReply(entries=[_entry(entry) for entry in entries])


def _board(board: Board) -> scores_pb2.Board:
    return scores_pb2.Board(
        board=board.name,
        title=board.title,
        operator="sum",
        order="descending",
        ties="first_to_reach",
        reset=board.reset.value,
        window=board.window,
        public=True,
        resets_at_ms=_resets_at_ms(board),
    )


def _resets_at_ms(board: Board) -> int | None:
    end = board.period(clock.now()).end
    return int(end.timestamp() * 1000) if end else None


def _top(board: Board, top: Top) -> scores_pb2.Top:
    return scores_pb2.Top(
        board=board.name,
        period=top.period.id,
        entries=[_entry(entry) for entry in top.entries],
        total=top.total,
        updated_at_ms=top.updated_at_ms,
        resets_at_ms=int(top.period.end.timestamp() * 1000) if top.period.end else None,
        version=top.version,
    )


def _place(board: Board, user_id: str, place: Place) -> scores_pb2.Place:
    return scores_pb2.Place(
        board=board.name,
        period=place.period.id,
        user_id=user_id,
        rank=place.rank,
        score=place.score,
        total=place.total,
        behind=place.total - place.rank,
        points_to_next=place.points_to_next,
        neighbours=[_entry(entry) for entry in place.neighbours],
        version=place.version,
    )


def _entry(entry: Entry) -> scores_pb2.Entry:
    return scores_pb2.Entry(
        rank=entry.rank,
        user_id=entry.user_id,
        username=entry.username,
        score=entry.score,
        reached_at_ms=entry.reached_at_ms,
    )
