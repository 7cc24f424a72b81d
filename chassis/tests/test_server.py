"""Server and client: who may call, deadlines, failures, health, drain, over real gRPC and TLS."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from aiohttp import ClientSession
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.errors import (
    Failed,
    FieldError,
    Forbidden,
    Internal,
    Timeout,
    TooMany,
    Unavailable,
)
from chassis.rpc import client, server, tls
from chassis.settings import ProcessSettings
from chassis.testing import Certificates, eventually, served
from chassis.tests.names import Names

ECHO = "/scoreboard.Echo/Say"
WHO = {ECHO: frozenset({"gateway"})}
CALLERS = 64


class NameTaken(TooMany):
    """That name is taken."""


class Echo:
    """A servicer without a contract: bytes in, bytes out."""

    def __init__(self) -> None:
        self.calls = 0
        self.left_s: list[float] = []
        self.gate = asyncio.Event()

    async def say(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        match request:
            case b"taken":
                error = FieldError("name", "taken", "is taken")
                facts: dict[str, int | str] = {"limit": 0, "owner": "ada"}
                raise NameTaken(errors=[error], retry_after_s=7, reference="r1", facts=facts)
            case b"bug":
                raise KeyError("secret detail")
            case b"unavailable":
                raise Unavailable
            case b"slow":
                await self.gate.wait()
            case b"left":
                until = server.deadline.get() or 0
                self.left_s.append(until - asyncio.get_running_loop().time())
        return request

    def register(self, target: grpc.aio.Server) -> None:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.say)
        target.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("scoreboard.Echo", {"Say": handler})]
        )


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def channel(echo: Echo, certificates: Certificates) -> AsyncIterator[grpc.aio.Channel]:
    async with served(
        "auth", echo.register, certificates=certificates, callers=WHO, caller="gateway"
    ) as channel:
        yield channel


def running_echo(
    echo: Echo,
    certificates: Certificates,
    *,
    checks: Mapping[str, server.Check] = MappingProxyType({}),
    **settings: Any,
) -> AbstractAsyncContextManager[server.Running]:
    """A server of auth that serves `echo`."""
    return server.running(
        echo.register,
        settings=ProcessSettings(tls_dir=certificates.folder / "auth", **settings),
        identity=certificates.identity("auth"),
        callers=WHO,
        checks=checks,
    )


async def say(channel: grpc.aio.Channel, text: bytes, timeout: float | None = None) -> bytes:
    method: Any = channel.unary_unary(ECHO)
    answer: bytes = await method(text, timeout=timeout)
    return answer


async def test_a_failure_arrives_as_it_was_raised(channel: grpc.aio.Channel) -> None:
    with pytest.raises(TooMany) as raised:
        await say(channel, b"taken")

    failed = raised.value
    assert (failed.code, failed.detail) == ("NAME_TAKEN", "That name is taken.")
    assert failed.errors == (FieldError("name", "taken", "is taken"),)
    assert (failed.retry_after_s, failed.reference) == (7, "r1")
    assert failed.facts == {"limit": 0, "owner": "ada"}


async def test_a_bug_arrives_as_internal_without_its_details(channel: grpc.aio.Channel) -> None:
    with pytest.raises(Internal) as raised:
        await say(channel, b"bug")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("caller", ["realtime", "stranger"])
async def test_a_caller_that_is_not_drawn_is_refused(
    echo: Echo, certificates: Certificates, caller: str, logged: list[Any]
) -> None:
    async with served(
        "auth", echo.register, certificates=certificates, callers=WHO, caller=caller
    ) as channel:
        with pytest.raises(Forbidden, match="CALLER_REFUSED"):
            await say(channel, b"x")
    assert echo.calls == 0
    (line,) = [each for each in logged if each["event"] == "caller_refused"]
    assert (line["stream"], line["caller"], line["method"]) == ("security", caller, ECHO)


async def test_a_method_that_is_not_drawn_is_refused(
    echo: Echo, certificates: Certificates
) -> None:
    async with served(
        "auth", echo.register, certificates=certificates, callers={}, caller="gateway"
    ) as channel:
        with pytest.raises(Forbidden, match="CALLER_REFUSED"):
            await say(channel, b"x")


async def test_without_a_certificate_nothing_is_served(
    echo: Echo, certificates: Certificates
) -> None:
    trust = (certificates.folder / "gateway" / "ca.crt").read_bytes()
    override = [("grpc.ssl_target_name_override", "auth")]
    async with running_echo(echo, certificates) as running:
        for credentials in (None, grpc.ssl_channel_credentials(trust)):
            target = f"127.0.0.1:{running.port}"
            async with (
                grpc.aio.secure_channel(target, credentials, options=override)
                if credentials
                else grpc.aio.insecure_channel(target)
            ) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await say(channel, b"x", timeout=5)
    assert echo.calls == 0


async def test_a_call_out_of_time_fails_as_timeout(channel: grpc.aio.Channel) -> None:
    with pytest.raises(Timeout):
        await say(channel, b"slow", timeout=0.1)


async def test_a_requests_deadline_goes_with_its_calls_and_shrinks_by_hop(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    earlier = server.deadline.set(asyncio.get_running_loop().time() + 1)
    try:
        await say(channel, b"left", timeout=30)
    finally:
        server.deadline.reset(earlier)

    assert 0.5 < echo.left_s[0] < 0.98 + 0.005

    earlier = server.deadline.set(asyncio.get_running_loop().time() + 0.01)
    try:
        with pytest.raises(Timeout):
            await say(channel, b"never sent")
    finally:
        server.deadline.reset(earlier)
    assert echo.calls == 1


async def test_only_unavailable_is_retried_and_not_for_ever(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    with pytest.raises(Unavailable):
        await say(channel, b"unavailable")
    assert echo.calls == 3

    with pytest.raises(TooMany):
        await say(channel, b"taken")
    assert echo.calls == 4


async def test_a_method_called_once_is_never_called_again(
    echo: Echo, certificates: Certificates
) -> None:
    async with (
        running_echo(echo, certificates) as running,
        client.open_channel(
            f"127.0.0.1:{running.port}",
            unit="auth",
            identity=certificates.identity("gateway"),
            once=("scoreboard.Echo/Say",),
        ) as channel,
    ):
        with pytest.raises(Unavailable):
            await say(channel, b"unavailable")
    assert echo.calls == 1


async def test_calls_go_round_the_replicas_and_on_when_one_is_unavailable(
    certificates: Certificates,
) -> None:
    echoes = [Echo(), Echo()]
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(running_echo(echo, certificates)) for echo in echoes
        ]
        addresses = ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
        channel = await stack.enter_async_context(
            client.open_channel(
                f"ipv4:{addresses}", unit="auth", identity=certificates.identity("gateway")
            )
        )

        async def both() -> bool:
            await say(channel, b"x")
            return all(echo.calls for echo in echoes)

        await eventually(both)
        before = [echo.calls for echo in echoes]
        for _ in range(10):
            await say(channel, b"x")
        assert [echo.calls - was for echo, was in zip(echoes, before, strict=True)] == [5, 5]

        await replicas[0].grpc.stop(0)
        assert [await say(channel, b"x") for _ in range(10)] == [b"x"] * 10


async def test_a_peer_that_is_not_there_is_unavailable(certificates: Certificates) -> None:
    async with client.open_channel(
        "127.0.0.1:1", unit="auth", identity=certificates.identity("gateway")
    ) as channel:
        with pytest.raises(Failed) as raised:
            await say(channel, b"x")
    assert isinstance(raised.value, Unavailable)


async def test_health_shows_each_dependency(echo: Echo, certificates: Certificates) -> None:
    there = True

    async def store() -> None:
        if not there:
            raise OSError("unavailable")

    async with (
        running_echo(echo, certificates, checks={"store": store}) as running,
        client.open_channel(
            f"127.0.0.1:{running.port}", unit="auth", identity=certificates.identity("gateway")
        ) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)

        async def state(name: str) -> int:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            return int(reply.status)

        async def serving() -> bool:
            return await state("store") == health_pb2.HealthCheckResponse.SERVING

        async def not_serving() -> bool:
            return await state("store") == health_pb2.HealthCheckResponse.NOT_SERVING

        assert await state("") == health_pb2.HealthCheckResponse.SERVING
        await eventually(serving)
        there = False
        await eventually(not_serving)
        assert await state("") == health_pb2.HealthCheckResponse.SERVING


async def test_stopping_waits_for_the_request_in_flight_and_refuses_new_ones(
    echo: Echo, certificates: Certificates
) -> None:
    async with running_echo(echo, certificates) as running:
        open_channel = partial(
            client.open_channel,
            f"127.0.0.1:{running.port}",
            unit="auth",
            identity=certificates.identity("gateway"),
        )
        async with open_channel() as channel:
            slow = asyncio.create_task(say(channel, b"slow"))

            async def called() -> bool:
                return echo.calls == 1

            await eventually(called)
            stopping = asyncio.create_task(running.grpc.stop(10))
            async with open_channel() as late:
                with pytest.raises(Failed):
                    await say(late, b"x", timeout=1)
            echo.gate.set()

            assert await slow == b"slow"
            await stopping


async def test_a_replica_that_drains_fails_no_call_not_even_of_a_method_called_once(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both ends share this process, which other tests may leave little of the machine.
    monkeypatch.setattr(server, "LEAVE_S", 2.0)
    settings = ProcessSettings(tls_dir=certificates.folder / "auth")
    echo, done, ended = Echo(), 0, False
    async with AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(running_echo(echo, certificates)) for _ in range(2)
        ]
        channel = await stack.enter_async_context(
            client.open_channel(
                "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas),
                unit="auth",
                identity=certificates.identity("gateway"),
                once=("scoreboard.Echo/Say",),
            )
        )

        async def call() -> None:
            nonlocal done
            while not ended:
                await say(channel, b"x")
                done += 1

        async def called(times: int) -> bool:
            return done >= times

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(call())
            await eventually(lambda: called(20 * CALLERS))  # both replicas are in use
            await replicas[0].drain(settings)
            after = done + 5 * CALLERS
            await eventually(lambda: called(after))
            ended = True


async def test_a_replica_serves_on_in_its_pause_but_reports_that_it_does_not(
    channel: grpc.aio.Channel, echo: Echo, certificates: Certificates
) -> None:
    settings = ProcessSettings(tls_dir=certificates.folder / "auth", drain_pause_s=60)
    async with running_echo(echo, certificates) as running:
        target, override = f"127.0.0.1:{running.port}", ("grpc.ssl_target_name_override", "auth")
        credentials = tls.for_client(certificates.identity("gateway").files)
        # Of a caller that does not look at health.
        async with grpc.aio.secure_channel(target, credentials, options=[override]) as unaware:
            stub: Any = health_pb2_grpc.HealthStub(unaware)

            async def not_serving() -> bool:
                reply = await stub.Check(health_pb2.HealthCheckRequest())
                return bool(reply.status == health_pb2.HealthCheckResponse.NOT_SERVING)

            draining = asyncio.create_task(running.drain(settings))
            await eventually(not_serving)
            assert await say(unaware, b"x") == b"x"
            assert not draining.done()
            draining.cancel()


async def test_another_replica_gets_calls_when_a_connection_has_reached_its_age(
    certificates: Certificates,
) -> None:
    old, new = Echo(), Echo()
    async with AsyncExitStack() as stack:
        replica = await stack.enter_async_context(
            running_echo(old, certificates, connection_age_s=0.5)
        )
        names = await stack.enter_async_context(Names().open())
        names.addresses = ["127.0.0.1"]
        channel = await stack.enter_async_context(
            client.open_channel(
                f"dns://127.0.0.1:{names.port}/auth.test.:{replica.port}",
                unit="auth",
                identity=certificates.identity("gateway"),
            )
        )
        assert await say(channel, b"x") == b"x"
        await stack.enter_async_context(
            running_echo(new, certificates, host="127.0.0.2", port=replica.port)
        )
        names.addresses = ["127.0.0.1", "127.0.0.2"]

        async def both() -> bool:
            await say(channel, b"x")
            return bool(new.calls)

        # gRPC looks names up every 5 s at most (`dns_min_time_between_resolutions_ms`).
        await eventually(both, timeout_s=15)


async def test_the_operations_port_shows_life_readiness_and_metrics(
    certificates: Certificates,
) -> None:
    ready = True
    settings = ProcessSettings(tls_dir=certificates.folder / "auth")
    async with server.operations(settings, ready=lambda: ready) as port, ClientSession() as session:

        async def get(path: str) -> tuple[int, str, str | None]:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                retry_after = response.headers.get("Retry-After")
                return response.status, await response.text(), retry_after

        assert (await get("/livez"))[0] == 200
        assert (await get("/readyz"))[0] == 200
        ready = False
        assert await get("/readyz") == (503, "no\n", "1")
        assert "grpc_requests_total" in (await get("/metrics"))[1]
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get(f"http://127.0.0.1:{port}/metrics", headers=openmetrics) as answer:
            assert answer.content_type == "application/openmetrics-text"
            assert (await answer.text()).endswith("# EOF\n")
