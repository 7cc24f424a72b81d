"""Recording fakes of the services that scores calls."""

import asyncio
from typing import Any

from chassis.errors import Missing
from protos import actions_pb2, actions_pb2_grpc, failure_pb2, fraud_pb2, fraud_pb2_grpc


class FakeActions(actions_pb2_grpc.ActionsServicer):
    """Believes every token, which reads `action|owner|points[|code of a refusal]`."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, bool]] = []
        self.given_up: list[str] = []
        self.owners: dict[str, str] = {}  # of the actions that Get finds
        self.settlements = 0  # calls
        self.verified = 0
        self.unavailable = False
        self.broken = False
        self.answering = asyncio.Event()
        self.answering.set()

    async def Verify(
        self, request: actions_pb2.VerifyRequest, context: Any
    ) -> actions_pb2.VerifyReply:
        await self.answering.wait()
        if self.broken:
            raise RuntimeError("broken")
        self.verified += len(request.items)
        return actions_pb2.VerifyReply(results=[self._result(item) for item in request.items])

    async def Settle(
        self, request: actions_pb2.SettleRequest, context: Any
    ) -> actions_pb2.SettleReply:
        if self.unavailable:
            raise RuntimeError("unavailable")
        self.settlements += 1
        self.settled += [(action, True) for action in request.awarded]
        self.settled += [(action, False) for action in request.refused]
        self.given_up += request.given_up
        return actions_pb2.SettleReply()

    async def Get(self, request: actions_pb2.GetActionRequest, context: Any) -> actions_pb2.Action:
        if self.owners.get(request.action_id) != request.user_id:
            raise Missing(code="ACTION_NOT_FOUND")
        return actions_pb2.Action(action_id=request.action_id, action_type="WIN_GAME")

    def _result(self, item: actions_pb2.VerifyItem) -> actions_pb2.VerifyResult:
        if item.HasField("grant"):
            return _granted(item.grant)
        parts = item.action_token.split("|")
        if len(parts) < 3:
            return actions_pb2.VerifyResult(failure=_failure("TOKEN_INVALID"))
        sealed = actions_pb2.Sealed(action_id=parts[0], user_id=parts[1], action_type="WIN_GAME")
        code = "TOKEN_MISMATCH" if parts[1] != item.user_id else "".join(parts[3:])
        return actions_pb2.VerifyResult(
            sealed=sealed,
            failure=_failure(code) if code else None,
            closes=code == "SUSPICIOUS_ACTIVITY",
            mismatch=code == "TOKEN_MISMATCH",
            points=0 if code else int(parts[2]),
            elapsed_ms=2000,
            claimed_ms=1900,
            min_duration_ms=1000,
            max_duration_ms=300_000,
        )


class FakeFraud(fraud_pb2_grpc.FraudServicer):
    """Allows all without a verdict here, and keeps the requests."""

    def __init__(self) -> None:
        self.judged: list[fraud_pb2.JudgeItem] = []
        self.verdicts: dict[str, fraud_pb2.Verdict] = {}
        self.incidents: list[fraud_pb2.Incident] = []
        self.sanctions: list[fraud_pb2.Sanction] = []
        self.unavailable = False

    async def Judge(self, request: fraud_pb2.JudgeRequest, context: Any) -> fraud_pb2.JudgeReply:
        if self.unavailable:
            raise RuntimeError("unavailable")
        self.judged += request.items
        users = [item.verified.sealed.user_id for item in request.items]
        return fraud_pb2.JudgeReply(
            verdicts={
                place: self.verdicts[user]
                for place, user in enumerate(users)
                if user in self.verdicts
            }
        )

    async def Report(self, request: fraud_pb2.ReportRequest, context: Any) -> fraud_pb2.ReportReply:
        if self.unavailable:
            raise RuntimeError("unavailable")
        self.incidents += request.incidents
        return fraud_pb2.ReportReply()

    async def SanctionsSince(
        self, request: fraud_pb2.SanctionsSinceRequest, context: Any
    ) -> fraud_pb2.SanctionsSinceReply:
        if self.unavailable:
            raise RuntimeError("unavailable")
        newer = [s for s in self.sanctions if s.version > request.version]
        return fraud_pb2.SanctionsSinceReply(sanctions=newer)


def _granted(grant: actions_pb2.Grant) -> actions_pb2.VerifyResult:
    """Believes every game server, up to 1000 points; 50 where it states none."""
    points = grant.score_increment if grant.HasField("score_increment") else 50
    sealed = actions_pb2.Sealed(
        action_id=grant.action_id,
        user_id=grant.user_id,
        action_type=grant.action_type,
    )
    refused = points > 1000
    return actions_pb2.VerifyResult(
        sealed=sealed,
        failure=_failure("SCORE_OUT_OF_RANGE") if refused else None,
        points=0 if refused else points,
    )


def _failure(code: str) -> failure_pb2.Failure:
    return failure_pb2.Failure(kind=failure_pb2.Failure.INVALID, code=code, detail=code)
