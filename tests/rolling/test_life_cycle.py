"""The end of each unit: not ready, requests finished, stores closed, code 0, all in that order."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGTERM

import asyncpg
import grpc
import pytest

from chassis.errors import Unauthenticated
from chassis.ids import uuid7
from chassis.rpc.client import open_channel
from chassis.rpc.tls import Identity
from chassis.testing import eventually
from deploy.units import UNITS, stores
from protos.actions_pb2 import IssueItem, IssueRequest
from protos.actions_pb2_grpc import ActionsStub
from protos.auth_pb2 import LoginRequest
from protos.auth_pb2_grpc import AuthStub
from protos.fraud_pb2 import SanctionsSinceRequest
from protos.fraud_pb2_grpc import FraudStub
from protos.realtime_pb2 import GatewayFrame, Hello
from protos.realtime_pb2_grpc import RealtimeStub
from protos.scores_pb2 import HistoryRequest
from protos.scores_pb2_grpc import ScoresStub
from scoreboard_client import ApiError, Client
from tests.people import PASSWORD
from tests.rolling.replicas import Deployment, Replica
from tests.suite import Suite

LIFE = ("ready", "draining", "requests_drained", "redis_closed", "postgres_closed", "stopped")
AWAITED = {unit: "postgres" if "database_url" in stores(unit) else "redis" for unit in UNITS}
STORES = {"redis_url": "redis_closed", "database_url": "postgres_closed"}


async def log_in(channel: grpc.aio.Channel) -> None:
    with pytest.raises(Unauthenticated):
        await AuthStub(channel).Login(LoginRequest(username="unknown", password=PASSWORD))


async def issue(channel: grpc.aio.Channel) -> None:
    item = IssueItem(user_id=uuid7(), action_type="COMPLETE_LEVEL")
    (result,) = (await ActionsStub(channel).Issue(IssueRequest(items=[item]))).results
    assert result.HasField("issued")


async def read_history(channel: grpc.aio.Channel) -> None:
    await ScoresStub(channel).History(HistoryRequest(user_id=uuid7(), limit=1))


async def read_sanctions(channel: grpc.aio.Channel) -> None:
    await FraudStub(channel).SanctionsSince(SanctionsSinceRequest())


async def follow(channel: grpc.aio.Channel) -> None:
    """A stream ends with its reason."""
    call = RealtimeStub(channel).Attach()
    await call.write(GatewayFrame(hello=Hello(gateway_id=GATEWAY)))
    frames = [frame async for frame in call]
    assert frames[-1].go_away.reason == "draining"


GATEWAY = "a gateway of this test"

# By unit, a call that must finish, and the table that it waits for.
CALLS: Mapping[str, tuple[Callable[[grpc.aio.Channel], Awaitable[None]], str]] = {
    "auth": (log_in, "auth.users"),
    "actions": (issue, "actions.actions"),
    "scores": (read_history, "scores.ledger"),
    "fraud": (read_sanctions, "fraud.sanctions"),
    "realtime": (follow, ""),
    "gateway": (log_in, "auth.users"),
}


@pytest.mark.parametrize("unit", UNITS)
async def test_a_signal_ends_a_unit_in_order_and_its_calls_first(
    deployment: Deployment, unit: str
) -> None:
    replica = deployment.of(unit)[0]
    call, table = CALLS[unit]

    async def not_ready() -> bool:
        return await replica.status() == 503

    async with locked(deployment.suite, table) as waiting:
        begun = waiting if table else lambda: logged(replica, "gateway_attached", gateway=GATEWAY)
        request = over_http(replica) if unit == "gateway" else over_grpc(deployment, replica, call)
        calling = asyncio.create_task(request)
        await eventually(begun)
        replica.program.process.send_signal(SIGTERM)
        await eventually(not_ready)
        await eventually(lambda: logged(replica, "draining"))
    await calling
    assert await replica.ended() == 0
    closed = [event for store, event in STORES.items() if store in stores(unit)]
    expected = ["ready", "draining", "requests_drained", *closed, "stopped"]
    assert [line["event"] for line in replica.lines() if line["event"] in LIFE] == expected
    assert replica.lines()[-1]["event"] == "stopped"
    replica.program.start()
    await replica.ready()


async def test_a_signal_while_stores_are_awaited_ends_a_unit_in_order(
    deployment: Deployment, tmp_path: Path
) -> None:
    nowhere = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}

    async def end(replica: Replica) -> None:
        unit = replica.unit
        given = dict(replica.program.environment) | {"PORT": "0", "OPS_PORT": "0"}
        for name in stores(unit):
            del given[f"{name.upper()}_FILE"]
            given[name.upper()] = nowhere[name.upper()]
        program = dataclasses.replace(
            replica.program, environment=given, log=tmp_path / f"{unit}.log"
        )
        starting = Replica(unit, program)
        program.start()
        try:
            await eventually(lambda: logged(starting, f"{AWAITED[unit]}_awaited"), timeout_s=30)
            program.process.send_signal(SIGTERM)
            assert await starting.ended() == 0
        finally:
            program.process.kill()
        events = [line["event"] for line in starting.lines()]
        assert "start_abandoned" in events
        assert events[-1] == "stopped"

    await asyncio.gather(*(end(deployment.of(unit)[0]) for unit in UNITS))


async def over_grpc(
    deployment: Deployment,
    replica: Replica,
    call: Callable[[grpc.aio.Channel], Awaitable[None]],
) -> None:
    identity = Identity(deployment.suite.folder() / "tls" / "gateway")
    target = f"127.0.0.1:{replica.program.ports['port']}"
    async with open_channel(target, unit=replica.unit, identity=identity) as channel:
        await call(channel)


async def over_http(replica: Replica) -> None:
    async with Client(f"http://127.0.0.1:{replica.program.ports['port']}") as client:
        with pytest.raises(ApiError, match="INVALID_CREDENTIALS"):
            await client.login("unknown", PASSWORD)


async def logged(replica: Replica, event: str, **fields: str) -> bool:
    wanted = {"event": event, **fields}
    return any(wanted.items() <= line.items() for line in replica.lines())


@asynccontextmanager
async def locked(suite: Suite, table: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Within it the table cannot be read; yields whether a statement waits for it.

    An empty name: nothing is locked.
    """
    connection = await asyncpg.connect(suite.processes()["postgres"]["url"], timeout=10)

    async def waiting() -> bool:
        found = await suite.sql(
            "SELECT 1 FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted", table
        )
        return bool(found)

    try:
        async with connection.transaction():
            if table:
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield waiting
    finally:
        await connection.close()
