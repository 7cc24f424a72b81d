"""A scores service on real stores, between fakes of the services it asks."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import asyncpg

from chassis.ids import uuid7
from chassis.keyring import Keyring
from chassis.postgres import Database, open_pool
from chassis.process import background
from chassis.redis import Redis
from chassis.testing import Certificates, served
from protos import actions_pb2, actions_pb2_grpc, fraud_pb2_grpc, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2_grpc import ScoresStub, add_ScoresServicer_to_server
from services.scores.awards.incident_store import Incidents
from services.scores.awards.incidents import Findings
from services.scores.awards.journal import Journal
from services.scores.awards.pipeline import Awards
from services.scores.awards.publish import Telling
from services.scores.awards.relay import Relay
from services.scores.awards.reversals import Reversals
from services.scores.awards.sanctions import Sanctions, since
from services.scores.awards.store import Ledger
from services.scores.awards.write import Breaker, Writer
from services.scores.boards.events import Events
from services.scores.boards.names import Names
from services.scores.boards.places import Boards
from services.scores.boards.registry import Registry
from services.scores.boards.store import Standings
from services.scores.periods.final_store import Finals
from services.scores.periods.final_tables import ClosedReads
from services.scores.reads.cache import Cache
from services.scores.reads.calls import BoardCalls
from services.scores.reads.cursors import Cursors
from services.scores.reads.degraded import Fallback
from services.scores.reads.history import History
from services.scores.reads.live import Live
from services.scores.reads.reading import Reads
from services.scores.reads.store import Snapshots
from services.scores.service import ScoresService
from services.scores.tests.fakes import FakeActions, FakeFraud
from services.scores.upkeep.filling import Filling
from services.scores.upkeep.rebuild import Rebuild

KEYS = Keyring(f"1:{'A' * 43}")


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
    filling: Filling
    reads: Reads
    closed: ClosedReads
    fallback: Fallback
    cache: Cache
    telling: Telling
    journal: Journal
    breaker: Breaker
    findings: Findings
    sanctions: Sanctions
    stub: ScoresStub
    fraud_stub: FraudStub
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
        attempt=actions_pb2.VerifyItem(
            attempt_id=attempt_id or uuid7(), user_id=user_id, action_token=token
        ),
        username=username or f"p-{user_id[-6:]}",
        name_version=name_version,
        key_hash=key,
        body_hash=body,
    )


async def clear(admin: asyncpg.Pool) -> None:
    """Empties the tables: no players, no boards but the built-in ones, no periods but to come."""
    await admin.execute(
        "TRUNCATE scores.players, scores.ledger, scores.outbox, scores.receipts,"
        " scores.reversals, scores.standings, scores.finals, scores.left_out, scores.incidents"
    )
    await admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
    await admin.execute("DELETE FROM scores.boards WHERE NOT built_in")


@asynccontextmanager
async def open_scores(
    urls: Mapping[str, str],
    redis: Redis,
    certificates: Certificates,
    *,
    journal_max: int = 1000,
    empty: bool = True,
) -> AsyncIterator[Scores]:
    """The service with empty tables (not `empty`: as they are), served over gRPC.

    Of its background work only the listening for changes runs.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        admin = await enter(open_pool(urls["admin"], size_max=2))
        if empty:
            await clear(admin)
        pool = await enter(open_pool(urls["scores"]))
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
        cache = Cache(redis)
        closed = ClosedReads(Finals(database))
        fallback = Fallback(Snapshots(database), standings)
        live = Live(redis, Names(redis, ledger.names))
        reads = Reads(registry, live, closed, fallback, cache)
        await enter(background(cache.follow()))
        rebuild = Rebuild(redis, boards, registry, standings)
        await rebuild.work()
        to_actions, to_fraud = ActionsStub(actions_channel), FraudStub(fraud_channel)
        telling = Telling(ledger, standings, boards, events, actions=to_actions)
        journal = Journal(redis, KEYS, ledger, telling, items_max=journal_max)
        breaker = Breaker(database.ping)
        findings = Findings(Incidents(database), to_fraud)
        awards = Awards(
            ledger,
            Writer(ledger, journal, breaker),
            telling,
            findings,
            actions=to_actions,
            fraud=to_fraud,
        )
        history = History(ledger, Cursors(KEYS))
        calls = BoardCalls(registry, reads, Cursors(KEYS))
        filling = Filling(redis, registry, standings, rebuild)
        service = ScoresService(awards, history, Reversals(ledger, telling), calls, filling)
        channel = await enter(
            served(
                "scores",
                partial(add_ScoresServicer_to_server, service),
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
            relay=Relay(ledger, telling, after_s=0),
            rebuild=rebuild,
            filling=filling,
            reads=reads,
            closed=closed,
            fallback=fallback,
            cache=cache,
            telling=telling,
            journal=journal,
            breaker=breaker,
            findings=findings,
            sanctions=Sanctions(since(to_fraud), ledger, telling),
            stub=ScoresStub(channel),
            fraud_stub=to_fraud,
            actions=actions,
            fraud=fraud,
        )
        await telling.drain()
        await findings.drain()
