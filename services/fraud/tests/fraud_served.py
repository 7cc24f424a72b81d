"""Fraud served over gRPC on real stores, and how the tests call it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database
from chassis.postgres.outbox import OutboxRelay
from chassis.redis import Redis
from chassis.testing import Certificates, served
from protos.actions_pb2 import Sealed, VerifyResult
from protos.arrows import callers
from protos.failure_pb2 import Failure
from protos.fraud_pb2 import (
    Incident,
    JudgeItem,
    JudgeRequest,
    ReportRequest,
    Sanction,
    SanctionsSinceRequest,
    Verdict,
)
from protos.fraud_pb2_grpc import FraudStub, add_FraudServicer_to_server
from services.fraud.sanctions import SanctionCache
from services.fraud.sanctions_store import SanctionStore
from services.fraud.service import FraudService
from services.fraud.store import FraudStore
from services.fraud.windows import Windows


@dataclass(frozen=True, kw_only=True)
class Fraud:
    """Fraud as scores sees it."""

    stub: FraudStub
    sanctions: SanctionCache
    pool: asyncpg.Pool

    async def judge(self, *items: JudgeItem) -> list[Verdict]:
        reply = await self.stub.Judge(JudgeRequest(items=items))
        return [reply.verdicts[place] for place in range(len(items))]

    async def play(self, user: str, actions: int) -> list[Verdict]:
        """That many accepted actions of a player, judged one after the other."""
        return [(await self.judge(attempt(user)))[0] for _ in range(actions)]

    async def burst(self, user: str) -> Verdict:
        """Nine actions at once; returns the ninth's verdict."""
        return (await self.judge(*(attempt(user) for _ in range(9))))[-1]

    async def since(self, version: int) -> list[Sanction]:
        reply = await self.stub.SanctionsSince(SanctionsSinceRequest(version=version))
        return list(reply.sanctions)

    async def cases(self, user: str) -> list[asyncpg.Record]:
        """The player's cases: rule, source, reasons."""
        return await self.pool.fetch(
            "SELECT rule, source_id, reasons FROM fraud.cases WHERE user_id = $1", user
        )


@asynccontextmanager
async def open_fraud(
    pool: asyncpg.Pool,
    redis: Redis,
    certificates: Certificates,
    *,
    limited: bool = True,
    relays: tuple[OutboxRelay, ...] = (),
) -> AsyncIterator[Fraud]:
    """One replica; none of its background work runs by itself."""
    database = Database(pool)
    store = SanctionStore(database)
    sanctions = SanctionCache(store)
    await sanctions.refresh()
    service = FraudService(
        FraudStore(database), store, Windows(redis, limited=limited), sanctions, relays=relays
    )
    async with served(
        "fraud",
        partial(add_FraudServicer_to_server, service),
        certificates=certificates,
        callers=callers("fraud"),
        caller="scores",
    ) as channel:
        yield Fraud(stub=FraudStub(channel), sanctions=sanctions, pool=pool)


def attempt(user: str, action: str | None = None, *, refusal: str = "") -> JudgeItem:
    """An attempt at an action of its own, or at that one; accepted unless it was refused."""
    sealed = Sealed(action_id=action or uuid7(), user_id=user, action_type="WIN_GAME")
    failure = Failure(code=refusal) if refusal else None
    verified = VerifyResult(sealed=sealed, failure=failure, elapsed_ms=5_000)
    return JudgeItem(attempt_id=uuid7(), verified=verified)


def incident(user: str, rule: str = "time", *, other: str = "") -> Incident:
    """An incident that actions found."""
    return Incident(
        incident_id=uuid7(),
        user_id=user,
        rule=rule,
        action_id=uuid7(),
        action_type="WIN_GAME",
        observed=100,
        threshold=1_000,
        at_ms=clock.now_ms(),
        other_user_id=other,
    )


async def report(fraud: Fraud, *incidents: Incident) -> None:
    await fraud.stub.Report(ReportRequest(incidents=incidents))


def decisions(verdicts: list[Verdict]) -> list[str]:
    return [Verdict.Decision.Name(verdict.decision) for verdict in verdicts]
