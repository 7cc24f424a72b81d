"""The calls of the scores service: check, act, answer."""

import asyncio
from typing import Any

import grpc

from chassis.batching import bounded
from chassis.errors import Failed, to_proto
from protos import scores_pb2, scores_pb2_grpc
from services.scores import board_answers
from services.scores.awards import Awards
from services.scores.history import History
from services.scores.reading import NotRanked, Reads
from services.scores.registry import Registry
from services.scores.reversals import Reversals

TOP_MAX = 100
RADIUS_MAX = 50
RANKS_MAX = 200

Context = grpc.aio.ServicerContext[Any, Any]


class ScoresService(scores_pb2_grpc.ScoresServicer):
    """See protos/scores.proto."""

    def __init__(
        self,
        awards: Awards,
        history: History,
        reversals: Reversals,
        registry: Registry,
        reads: Reads,
    ) -> None:
        self._awards = awards
        self._history = history
        self._reversals = reversals
        self._registry = registry
        self._reads = reads

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

    async def History(
        self, request: scores_pb2.HistoryRequest, context: Context
    ) -> scores_pb2.HistoryReply:
        return await self._history.page(request)

    async def Reverse(
        self, request: scores_pb2.ReverseRequest, context: Context
    ) -> scores_pb2.ReverseReply:
        return await self._reversals.reverse(request)

    async def Boards(
        self, request: scores_pb2.BoardsRequest, context: Context
    ) -> scores_pb2.BoardsReply:
        return scores_pb2.BoardsReply(
            boards=[board_answers.board(known) for known in self._registry.listed()]
        )

    async def Top(self, request: scores_pb2.TopRequest, context: Context) -> scores_pb2.TopReply:
        bounded(request.items)
        return scores_pb2.TopReply(
            results=await asyncio.gather(*(self._top(item) for item in request.items))
        )

    async def Around(
        self, request: scores_pb2.AroundRequest, context: Context
    ) -> scores_pb2.AroundReply:
        bounded(request.items)
        return scores_pb2.AroundReply(
            results=await asyncio.gather(*(self._around(item) for item in request.items))
        )

    async def Ranks(
        self, request: scores_pb2.RanksRequest, context: Context
    ) -> scores_pb2.RanksReply:
        bounded(request.user_ids, most=RANKS_MAX)
        where = self._reads.where(request.board, request.period, anonymous=request.anonymous)
        found = await self._reads.ranks(where, request.user_ids)
        return scores_pb2.RanksReply(
            entries=board_answers.entries(found.entries),
            degraded=found.degraded,
            period=where[1].id,
            board_version=found.board_version,
        )

    async def WouldBe(
        self, request: scores_pb2.WouldBeRequest, context: Context
    ) -> scores_pb2.WouldBeReply:
        where = self._reads.where(request.board, request.period, anonymous=request.anonymous)
        found = await self._reads.would_be(where, request.score)
        return scores_pb2.WouldBeReply(
            rank=found.rank,
            total=found.total,
            degraded=found.degraded,
            period=where[1].id,
            board_version=found.board_version,
        )

    async def _top(self, item: scores_pb2.TopItem) -> scores_pb2.TopResult:
        try:
            where = self._reads.where(item.board, item.period, anonymous=item.anonymous)
            page = await self._reads.top(where, max(1, min(item.limit, TOP_MAX)), fresh=item.fresh)
        except Failed as failed:
            return scores_pb2.TopResult(failure=to_proto(failed))
        return scores_pb2.TopResult(top=board_answers.top(where, page, ""))

    async def _around(self, item: scores_pb2.AroundItem) -> scores_pb2.AroundResult:
        try:
            where = self._reads.where(item.board, item.period, anonymous=item.anonymous)
            radius = max(0, min(item.radius, RADIUS_MAX))
            (place,) = await self._reads.around([(where, item.user_id, radius)])
            if place is None:
                raise NotRanked
        except Failed as failed:
            return scores_pb2.AroundResult(failure=to_proto(failed))
        return scores_pb2.AroundResult(place=board_answers.place(where, item.user_id, place))
