"""The calls of the scores service: check, act, answer."""

from typing import Any

import grpc

from chassis.batching import bounded
from chassis.errors import Failed, to_proto
from protos import scores_pb2, scores_pb2_grpc
from services.scores.awards import Awards
from services.scores.reads import Reads
from services.scores.upkeep import Upkeep
from services.scores.upkeep.filling import checked

Context = grpc.aio.ServicerContext[Any, Any]


class ScoresService(scores_pb2_grpc.ScoresServicer):
    """See protos/scores.proto."""

    def __init__(self, awards: Awards, reads: Reads, upkeep: Upkeep) -> None:
        self._awards = awards
        self._reads = reads
        self._upkeep = upkeep

    async def Award(
        self, request: scores_pb2.AwardRequest, context: Context
    ) -> scores_pb2.AwardReply:
        bounded(request.items)
        answers = await self._awards.pipeline.award(request.items)
        # Added in place, here and wherever awards pass: a message in a list is copied.
        reply = scores_pb2.AwardReply()
        for answer in answers:
            if isinstance(answer, Failed):
                reply.results.add(failure=to_proto(answer))
            else:
                reply.results.add(award=answer)
        return reply

    async def GiveUp(
        self, request: scores_pb2.GiveUpRequest, context: Context
    ) -> scores_pb2.GiveUpReply:
        await self._awards.giving_up.give_up(request.user_id, request.action_id)
        return scores_pb2.GiveUpReply()

    async def Receipt(
        self, request: scores_pb2.ReceiptRequest, context: Context
    ) -> scores_pb2.Award:
        return await self._awards.repeats.receipt(request.user_id, request.action_id)

    async def Reverse(
        self, request: scores_pb2.ReverseRequest, context: Context
    ) -> scores_pb2.ReverseReply:
        return await self._awards.reversals.reverse(request)

    async def Changes(
        self, request: scores_pb2.ChangesRequest, context: Context
    ) -> scores_pb2.ChangesReply:
        return await self._reads.changes.changes(request)

    async def CreateBoard(self, request: scores_pb2.Board, context: Context) -> scores_pb2.Board:
        return await self._upkeep.filling.create(request)

    async def CheckBoard(
        self, request: scores_pb2.Board, context: Context
    ) -> scores_pb2.CheckBoardReply:
        checked(request)
        return scores_pb2.CheckBoardReply()

    async def Boards(
        self, request: scores_pb2.BoardsRequest, context: Context
    ) -> scores_pb2.BoardsReply:
        return await self._reads.calls.boards()

    async def Top(self, request: scores_pb2.TopRequest, context: Context) -> scores_pb2.TopReply:
        return await self._reads.calls.top(request)

    async def Around(
        self, request: scores_pb2.AroundRequest, context: Context
    ) -> scores_pb2.AroundReply:
        return await self._reads.calls.around(request)

    async def Ranks(
        self, request: scores_pb2.RanksRequest, context: Context
    ) -> scores_pb2.RanksReply:
        return await self._reads.calls.ranks(request)

    async def WouldBe(
        self, request: scores_pb2.WouldBeRequest, context: Context
    ) -> scores_pb2.WouldBeReply:
        return await self._reads.calls.would_be(request)

    async def History(
        self, request: scores_pb2.HistoryRequest, context: Context
    ) -> scores_pb2.HistoryReply:
        return await self._reads.calls.history(request)
