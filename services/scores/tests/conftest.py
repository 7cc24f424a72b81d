"""A scores service on real stores, between recording fakes of the services it asks."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import asyncpg
import pytest

from chassis.ids import uuid7
from chassis.postgres import Database, open_pool
from chassis.redis import Redis
from chassis.testing import Certificates, served
from protos import actions_pb2, actions_pb2_grpc, failure_pb2, fraud_pb2, fraud_pb2_grpc, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2_grpc import ScoresStub, add_ScoresServicer_to_server
from services.scores.awards import Awards
from services.scores.boards import Boards
from services.scores.events import Events
from services.scores.live import Live
from services.scores.names import Names
from services.scores.reading import Reads
from services.scores.rebuild import Rebuild
from services.scores.registry import Registry
from services.scores.relay import Relay
from services.scores.service import ScoresService
from services.scores.store.ledger import Ledger
from services.scores.store.standings import Standings


class FakeActions(actions_pb2_grpc.ActionsServicer):
    """Believes every token, which reads `action|owner|points[|code of a refusal]`."""

    def __init__(self) -> None:
        self.settled: list[tuple[str, bool]] = []
        self.away = False

    async def Verify(
        self, request: actions_pb2.VerifyRequest, context: Any
    ) -> actions_pb2.VerifyReply:
        return actions_pb2.VerifyReply(results=[self._result(item) for item in request.items])

    async def Settle(
        self, request: actions_pb2.SettleRequest, context: Any
    ) -> actions_pb2.SettleReply:
        if self.away:
            raise RuntimeError("away")
        self.settled += [(s.action_id, s.awarded) for s in request.settlements]
        return actions_pb2.SettleReply()

    def _result(self, item: actions_pb2.VerifyItem) -> actions_pb2.VerifyResult:
        parts = item.action_token.split("|")
        if len(parts) < 3:
            return actions_pb2.VerifyResult(failure=_failure("TOKEN_INVALID"))
        sealed = actions_pb2.Sealed(
            action_id=parts[0],
            user_id=parts[1],
            action_type="WIN_GAME",
            score_increment=int(parts[2]),
        )
        code = "TOKEN_MISMATCH" if parts[1] != item.user_id else "".join(parts[3:])
        return actions_pb2.VerifyResult(
            sealed=sealed,
            failure=_failure(code) if code else None,
            closes=code == "SUSPICIOUS_ACTIVITY",
            elapsed_ms=2000,
            claimed_ms=1900,
            min_duration_ms=1000,
            max_duration_ms=300_000,
        )


class FakeFraud(fraud_pb2_grpc.FraudServicer):
    """Allows all but those it was told about, and keeps what it was asked."""

    def __init__(self) -> None:
        self.judged: list[fraud_pb2.JudgeItem] = []
        self.verdicts: dict[str, fraud_pb2.Verdict] = {}
        self.away = False

    async def Judge(self, request: fraud_pb2.JudgeRequest, context: Any) -> fraud_pb2.JudgeReply:
        if self.away:
            raise RuntimeError("away")
        self.judged += request.items
        return fraud_pb2.JudgeReply(
            verdicts=[
                self.verdicts.get(item.user_id, fraud_pb2.Verdict()) for item in request.items
            ]
        )


def _failure(code: str) -> failure_pb2.Failure:
    return failure_pb2.Failure(kind=failure_pb2.Failure.INVALID, code=code, detail=code)


@dataclass
class Scores:
    """The service under test, its stores, and the fakes around it."""

    pool: asyncpg.Pool
    admin: asyncpg.Pool
    redis: Redis
    ledger: Ledger
    standings: Standings
    registry: Registry
    boards: Boards
    awards: Awards
    relay: Relay
    rebuild: Rebuild
    stub: ScoresStub
    actions: FakeActions = field(default_factory=FakeActions)
    fraud: FakeFraud = field(default_factory=FakeFraud)

    async def award(self, *items: scores_pb2.AwardItem) -> list[Any]:
        """The award or the code of the failure, for each item of one batch."""
        reply = await self.stub.Award(scores_pb2.AwardRequest(items=items))
        return [r.award if r.HasField("award") else r.failure.code for r in reply.results]


def item(
    user_id: str,
    points: int = 50,
    *,
    action_id: str | None = None,
    attempt_id: str | None = None,
    refusal: str = "",
    username: str = "",
    name_version: int = 1,
    key: bytes = b"",
    body: bytes = b"",
) -> scores_pb2.AwardItem:
    """An attempt of `user_id` with a token of its own."""
    token = f"{action_id or uuid7()}|{user_id}|{points}" + (f"|{refusal}" if refusal else "")
    return scores_pb2.AwardItem(
        attempt_id=attempt_id or uuid7(),
        user_id=user_id,
        username=username or f"p-{user_id[-6:]}",
        name_version=name_version,
        action_token=token,
        key_hash=key,
        body_hash=body,
    )


@pytest.fixture(scope="session")
async def scores_database(migrated: Callable[..., Awaitable[dict[str, str]]]) -> dict[str, str]:
    return await migrated("scores")


@pytest.fixture
async def scores(
    scores_database: dict[str, str], redis: Redis, certificates: Certificates
) -> AsyncIterator[Scores]:
    """The service with empty stores, served over gRPC to a caller `gateway`."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        admin = await enter(open_pool(scores_database["admin"], size_max=2))
        await admin.execute(
            "TRUNCATE scores.players, scores.ledger, scores.outbox, scores.receipts,"
            " scores.reversals, scores.standings, scores.finals, scores.left_out"
        )
        pool = await enter(open_pool(scores_database["scores"]))
        actions, fraud = FakeActions(), FakeFraud()
        actions_channel = await enter(
            served(
                "actions",
                partial(actions_pb2_grpc.add_ActionsServicer_to_server, actions),
                certificates=certificates,
                callers=callers("actions"),
                caller="scores",
            )
        )
        fraud_channel = await enter(
            served(
                "fraud",
                partial(fraud_pb2_grpc.add_FraudServicer_to_server, fraud),
                certificates=certificates,
                callers=callers("fraud"),
                caller="scores",
            )
        )
        database = Database(pool)
        standings = Standings(database)
        registry = Registry(standings)
        await registry.refresh()
        ledger = Ledger(database, registry.refresh)
        boards = Boards(redis, registry, ledger.names, standings)
        events = Events(redis, registry)
        reads = Reads(registry, Live(redis, Names(redis, ledger.names)))
        rebuild = Rebuild(boards, registry, standings)
        await rebuild.work()
        awards = Awards(
            ledger,
            boards,
            events,
            actions=ActionsStub(actions_channel),
            fraud=FraudStub(fraud_channel),
        )
        channel = await enter(
            served(
                "scores",
                partial(add_ScoresServicer_to_server, ScoresService(awards, registry, reads)),
                certificates=certificates,
                callers=callers("scores"),
                caller="gateway",
            )
        )
        yield Scores(
            pool=pool,
            admin=admin,
            redis=redis,
            ledger=ledger,
            standings=standings,
            registry=registry,
            boards=boards,
            awards=awards,
            rebuild=rebuild,
            relay=Relay(ledger, standings, boards, events, awards, after_s=0),
            stub=ScoresStub(channel),
            actions=actions,
            fraud=fraud,
        )
        await awards.drain()
