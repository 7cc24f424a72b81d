"""The service on a database, served over real gRPC to those who call it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import asyncpg

from chassis.errors import Unavailable
from chassis.ids import uuid7
from chassis.keyring import Keyring
from chassis.postgres import Database
from chassis.rpc import client, server
from chassis.settings import ProcessSettings
from chassis.testing import Certificates
from protos import actions_pb2 as pb
from protos import fraud_pb2
from protos.actions_pb2_grpc import ActionsStub, add_ActionsServicer_to_server
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from services.actions.attempts import IncidentRelay
from services.actions.catalogue import Catalogue
from services.actions.service import ActionsService
from services.actions.store import ActionsStore
from services.actions.tests.players import SEALING, SIGNING, Play, new_user
from services.actions.tokens import Sealer

_TYPE_FIELDS = frozenset(pb.ActionType.DESCRIPTOR.fields_by_name) - {"action_type"}


def codes(results: list[pb.IssueResult]) -> list[str]:
    """What became of each request for a token: "issued", or why not."""
    return [result.failure.code or "issued" for result in results]


@dataclass
class RecordingFraud:
    """Fraud's place at our edge: keeps what it receives."""

    incidents: list[fraud_pb2.Incident] = field(default_factory=list)
    unavailable: bool = False

    async def Report(self, request: fraud_pb2.ReportRequest) -> fraud_pb2.ReportReply:
        if self.unavailable:
            raise Unavailable
        self.incidents.extend(request.incidents)
        return fraud_pb2.ReportReply()


@dataclass
class Actions:
    """The service, over real gRPC, as gateway and scores see it."""

    gateway: ActionsStub
    scores: ActionsStub
    relay: IncidentRelay
    fraud: RecordingFraud
    catalogue: Catalogue
    port: int

    async def results(
        self, user_id: str, *types: str, patient: bool = False
    ) -> list[pb.IssueResult]:
        items = [pb.IssueItem(user_id=user_id, action_type=name) for name in types]
        request = pb.IssueRequest(items=items, patient=patient)
        return list((await self.gateway.Issue(request)).results)

    async def issue(self, user_id: str, action_type: str = "WIN_GAME") -> Play:
        (result,) = await self.results(user_id, action_type)
        assert result.HasField("issued"), result.failure
        return Play(user_id, result.issued)

    async def verify(
        self,
        play: Play,
        claims: pb.Claims,
        *,
        caller: str = "",
        token: str = "",
        attempt: str = "attempt",
    ) -> pb.VerifyResult:
        item = pb.VerifyItem(
            attempt_id=attempt,
            user_id=caller or play.user_id,
            action_token=token or play.issued.action_token,
            claims=claims,
        )
        reply: pb.VerifyReply = await self.scores.Verify(pb.VerifyRequest(items=[item]))
        return reply.results[0]

    async def complete(
        self, play: Play, claims: pb.Claims, *, caller: str = ""
    ) -> pb.CompleteResult:
        item = pb.CompleteItem(user_id=caller or play.user_id, claims=claims)
        reply: pb.CompleteReply = await self.gateway.Complete(pb.CompleteRequest(items=[item]))
        return reply.results[0]

    async def settle(self, play: Play, *, awarded: bool) -> None:
        request = pb.SettleRequest()
        (request.awarded if awarded else request.refused).append(play.issued.action_id)
        await self.scores.Settle(request)

    async def state(self, play: Play) -> str:
        request = pb.GetActionRequest(user_id=play.user_id, action_id=play.issued.action_id)
        reply: pb.Action = await self.gateway.Get(request)
        return reply.state

    async def create_type(self, name: str, **fields: Any) -> pb.ActionType:
        wanted: dict[str, Any] = {
            "title": "A test's type",
            "points": 10,
            "min_duration_ms": 0,
            "max_duration_ms": 2000,
            "token_ttl_s": 3,
        }
        new = pb.ActionType(action_type=name, **(wanted | fields))
        reply: pb.ActionType = await self.gateway.CreateType(new)
        return reply

    async def change_type(self, name: str, **fields: Any) -> pb.ActionType:
        """Gives the type these values; None removes one."""
        values = {field: value for field, value in fields.items() if field in _TYPE_FIELDS}
        request = pb.UpdateTypeRequest(
            type=pb.ActionType(action_type=name, **values), fields=list(fields)
        )
        reply: pb.ActionType = await self.gateway.UpdateType(request)
        return reply

    async def grant(self, **fields: Any) -> pb.VerifyResult:
        """A game server's grant of WIN_GAME, but for `fields`; None: not stated."""
        wanted: dict[str, Any] = {
            "client_id": "game-server",
            "action_types": ["WIN_GAME"],
            "action_id": uuid7(),
            "user_id": new_user(),
            "action_type": "WIN_GAME",
        }
        item = pb.VerifyItem(attempt_id="attempt", grant=pb.Grant(**(wanted | fields)))
        reply: pb.VerifyReply = await self.scores.Verify(pb.VerifyRequest(items=[item]))
        return reply.results[0]


class CountingPool:
    """A pool that keeps the names of its queries."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.queries: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.queries.append(name)
        return getattr(self._pool, name)


@asynccontextmanager
async def open_actions(
    pool: asyncpg.Pool,
    certificates: Certificates,
    *,
    capped: bool = True,
    settle_wait_s: float = 0.15,
    keys: tuple[Keyring, Keyring] = (SEALING, SIGNING),
) -> AsyncIterator[Actions]:
    """The service on that pool, served over real gRPC."""
    store, fraud = ActionsStore(Database(pool)), RecordingFraud()
    catalogue, relay = Catalogue(store.types), IncidentRelay(store, cast(FraudStub, fraud))
    await catalogue.refresh()
    service = ActionsService(
        store,
        catalogue,
        Sealer(*keys),
        relay,
        points_max=1000,
        open_max=3,
        settle_wait_s=settle_wait_s,
        capped=capped,
    )
    settings = ProcessSettings(tls_dir=certificates.folder / "actions")
    register = partial(add_ActionsServicer_to_server, service)
    async with server.running(
        register,
        settings=settings,
        identity=certificates.identity("actions"),
        callers=callers("actions"),
        checks={},
    ) as running:
        channels = [
            client.open_channel(
                f"127.0.0.1:{running.port}", unit="actions", identity=certificates.identity(unit)
            )
            for unit in ("gateway", "scores")
        ]
        async with channels[0], channels[1]:
            stubs = [ActionsStub(channel) for channel in channels]
            yield Actions(stubs[0], stubs[1], relay, fraud, catalogue, running.port)


@asynccontextmanager
async def cut_off_from(
    database: dict[str, str], certificates: Certificates
) -> AsyncIterator[Actions]:
    """The service on a pool whose server is unavailable after the start."""
    pool = await asyncpg.create_pool(database["actions"], min_size=1, max_size=2)
    try:
        async with open_actions(pool, certificates) as opened:
            await pool.expire_connections()
            pool.set_connect_args("postgresql://actions:none@127.0.0.1:1/none")
            yield opened
    finally:
        pool.terminate()
