"""A scores service on real stores, between fakes of the services it calls."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from chassis.ids import uuid7
from chassis.keyring import Keyring
from chassis.postgres import Database, open_pool
from chassis.process import background
from chassis.redis import Redis
from chassis.redis.stream import Bound
from chassis.testing import Certificates, served
from protos import actions_pb2, actions_pb2_grpc, fraud_pb2_grpc, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2_grpc import ScoresStub, add_ScoresServicer_to_server
from services.scores.awards import Awards
from services.scores.boards import Boards
from services.scores.boards.registry import Registry
from services.scores.periods import Periods
from services.scores.reads import Reads
from services.scores.service import ScoresService
from services.scores.settings import Settings
from services.scores.tests.fakes import FakeActions, FakeFraud
from services.scores.upkeep import Upkeep

KEYS = Keyring(f"1:{'A' * 43}")
EVENTS = Bound(entries_max=100_000, bytes_max=2**26, kept_s=86400)


@dataclass
class Scores:
    """The service under test by its rooms, its stores, and the fakes around it."""

    pool: asyncpg.Pool
    admin: asyncpg.Pool
    database: Database
    redis: Redis
    boards: Boards
    awards: Awards
    periods: Periods
    reads: Reads
    upkeep: Upkeep
    stub: ScoresStub
    fraud_stub: FraudStub
    actions: FakeActions = field(default_factory=FakeActions)
    fraud: FakeFraud = field(default_factory=FakeFraud)

    @property
    def registry(self) -> Registry:
        """The boards there are."""
        return self.boards.registry

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


def repeated(award: scores_pb2.Award) -> scores_pb2.Award:
    """The award as another attempt is answered."""
    again = scores_pb2.Award(repeat=True)
    again.MergeFrom(award)
    return again


TABLES = (
    "players ledger outbox receipts reversals standings finals left_out incidents late_publications"
).split()
TRUNCATED_ROWS = 10_000  # above which TRUNCATE, at 60 ms for the ledger's partitions, is quicker


async def clear(admin: asyncpg.Pool) -> None:
    """Empties the tables: no players, no boards but the built-in ones, no periods but to come."""
    if await admin.fetchval("SELECT count(*) FROM scores.players") > TRUNCATED_ROWS:
        await admin.execute("TRUNCATE " + ", ".join(f"scores.{table}" for table in TABLES))
    async with admin.acquire() as connection, connection.transaction():
        # Else triggers would refuse it.
        await connection.execute("SET LOCAL session_replication_role = replica")
        for table in TABLES:
            await connection.execute(f"DELETE FROM scores.{table}")
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
    events: Bound = EVENTS,
    caller: str = "gateway",
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
        to_actions, to_fraud = ActionsStub(actions_channel), FraudStub(fraud_channel)
        settings = _settings(urls["scores"], journal_max)
        boards = Boards(database, redis, events=events)
        await boards.registry.refresh()
        awards = Awards(
            boards, database, redis, actions=to_actions, fraud=to_fraud, settings=settings
        )
        periods = Periods(boards, database, redis, reader=database, seal_keys=KEYS)
        reads = Reads(boards, periods, database, redis, reader=database, cursor_keys=KEYS)
        await enter(background(reads.cache.follow()))
        upkeep = Upkeep(boards, database, redis)
        await upkeep.rebuild.work()
        channel = await enter(
            served(
                "scores",
                partial(add_ScoresServicer_to_server, ScoresService(awards, reads, upkeep)),
                certificates=certificates,
                callers=callers("scores"),
                caller=caller,
            )
        )
        yield Scores(
            pool=pool,
            admin=admin,
            database=database,
            redis=redis,
            boards=boards,
            awards=awards,
            periods=periods,
            reads=reads,
            upkeep=upkeep,
            stub=ScoresStub(channel),
            fraud_stub=to_fraud,
            actions=actions,
            fraud=fraud,
        )
        await awards.drain()


def _settings(database_url: str, journal_max: int) -> Settings:
    return Settings(
        tls_dir=Path(),
        database_url=database_url,
        redis_url="",
        journal_keys=KEYS,
        journal_max=journal_max,
        cursor_keys=KEYS,
        seal_keys=KEYS,
        actions_target="",
        fraud_target="",
        relay_after_s=0,
    )
