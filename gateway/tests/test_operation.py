"""Health as load balancers see it, and a stop that loses nothing."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from grpc_health.v1 import health_pb2

from chassis.errors import Unavailable
from chassis.redis import Redis
from chassis.testing import Certificates, eventually
from gateway.api.health import Probes
from gateway.tests.edge import UPDATE, Answered, Edge, edge_of, edge_settings
from gateway.tests.services import AUDIENCE, AWARD, ISSUER, Fakes, encoded

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(edge: Edge) -> Answered:
    return await edge.call("GET", "/health")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units are probed often, and a result expires soon."""
    monkeypatch.setattr("gateway.__main__.PAUSE_S", 0.05)
    monkeypatch.setattr("gateway.api.health.STALE_S", 0.5)


async def test_health_while_all_is_well(edge: Edge) -> None:
    async def healthy() -> bool:
        return (await health(edge)).status == 200

    await eventually(healthy)
    report = (await health(edge)).json()

    assert report["status"] == "healthy"
    assert (report["redis"], report["database"]) == ("up", "up")
    assert report["services"] == dict.fromkeys(
        ("auth", "actions", "scores", "fraud", "realtime"), "up"
    )
    assert report["uptime"] >= 0
    assert report["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("unit", "name", "status", "word", "part"),
    [
        ("auth", "", 503, "unhealthy", ("services", "auth")),
        ("actions", "", 503, "unhealthy", ("services", "actions")),
        ("scores", "", 503, "unhealthy", ("services", "scores")),
        ("fraud", "", 200, "degraded", ("services", "fraud")),
        ("realtime", "", 200, "degraded", ("services", "realtime")),
        ("actions", "postgres", 503, "unhealthy", ("database",)),
        ("scores", "redis", 503, "unhealthy", ("redis",)),
    ],
)
@pytest.mark.usefixtures("quick", "redis")
async def test_health_names_what_is_down(  # noqa: PLR0917  Fixtures and parameters.
    fakes: Fakes,
    certificates: Certificates,
    redis_url: str,
    unit: str,
    name: str,
    status: int,
    word: str,
    part: tuple[str, ...],
) -> None:
    async with edge_of(edge_settings(fakes, certificates, redis_url), fakes) as edge:

        async def says(wanted: tuple[int, str]) -> bool:
            answer = await health(edge)
            return (answer.status, answer.json()["status"]) == wanted

        await eventually(lambda: says((200, "healthy")))
        await fakes.running[unit].health.set(name, NOT_SERVING)
        try:
            await eventually(lambda: says((status, word)))
            found: Any = (await health(edge)).json()
            for step in part:
                found = found[step]
            assert found == "down"
        finally:
            await fakes.running[unit].health.set(name, SERVING)
        await eventually(lambda: says((200, "healthy")))


async def test_a_result_that_is_too_old_is_down(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def healthy() -> bool:
        return (await health(edge)).status == 200

    await eventually(healthy)
    monkeypatch.setattr("gateway.api.health.STALE_S", 0.0)
    answer = await health(edge)

    assert (answer.status, answer.json()["status"]) == (503, "unhealthy")
    assert answer.headers["Retry-After"] == "2"
    assert set(answer.json()["services"].values()) == {"down"}
    assert (answer.json()["redis"], answer.json()["database"]) == ("down", "down")


async def test_a_unit_that_is_unavailable_is_503_service_unavailable(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    settings = edge_settings(fakes, certificates, redis_url, scores_target="127.0.0.1:1")
    async with edge_of(settings, fakes) as edge:
        answer = await edge.play("/scores/update", UPDATE)
        report = (await health(edge)).json()

    assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")
    assert answer.headers["Retry-After"] == "1"
    assert b"127.0.0.1" not in answer.body
    assert report["services"]["scores"] == "down"


async def test_a_named_absence_keeps_its_name(edge: Edge) -> None:
    edge.fakes.answers["Award"] = Unavailable(
        "It is kept.", code="QUEUED_FOR_REPLAY", retry_after_s=5
    )
    answer = await edge.play("/scores/update", UPDATE)

    assert (answer.status, answer.code) == (503, "QUEUED_FOR_REPLAY")
    assert answer.headers["Retry-After"] == "5"


@asynccontextmanager
async def started(
    fakes: Fakes, certificates: Certificates, redis_url: str, **settings: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """A gateway's process that is ready, and the addresses of its two ports."""
    environment = {
        **os.environ,
        "TLS_DIR": str(certificates.folder / "gateway"),
        "REDIS_URL": redis_url,
        "ISSUER": ISSUER,
        "AUDIENCE": AUDIENCE,
        "IDEMPOTENCY_KEYS": f"1:{encoded(bytes(32))}",
        **{name.upper(): target for name, target in fakes.targets.items()},
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            ready = json.loads(await process.stdout.readline())
            while ready["event"] != "ready":
                ready = json.loads(await process.stdout.readline())
        yield (
            process,
            f"http://127.0.0.1:{ready['port']}",
            f"http://127.0.0.1:{ready['ops_port']}",
        )
    finally:
        if process.returncode is None:
            process.kill()


async def test_the_process_serves_until_it_is_signalled_to_stop(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    gateway = started(fakes, certificates, redis_url, DRAIN_S="3")
    async with gateway as (process, base, ops):
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{base}/api/v1/leaderboard") as answer:
                assert answer.status == 200
            async with client.get(f"{ops}/metrics") as answer:
                assert 'route="/api/v1/leaderboard"' in await answer.text()
            for address in (f"{base}/readyz", f"{ops}/readyz", f"{base}/livez"):
                async with client.get(address) as answer:
                    assert answer.status == 200
            async with client.ws_connect(f"{base}/ws/leaderboard") as socket:
                await socket.send_json({"type": "connect", "id": 1, "subs": []})
                assert (await socket.receive_json())["type"] == "welcome"
                process.send_signal(signal.SIGTERM)
                assert (await socket.receive_json(timeout=10))["type"] == "shutdown"
                await socket.receive(timeout=10)
                # Shut down and closed in time, however long a farewell may take elsewhere.
                assert socket.close_code == 4001
        rest, _ = await asyncio.wait_for(process.communicate(), 30)
    events = [json.loads(line)["event"] for line in rest.splitlines()]
    assert process.returncode == 0
    assert events.index("request_answered") < events.index("draining") < events.index("stopped")
    assert events[-1] == "stopped"


async def test_a_gateway_serves_in_its_pause_but_is_not_ready_and_a_second_signal_ends_it(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    gateway = started(fakes, certificates, redis_url, DRAIN_PAUSE_S="60")
    async with gateway as (process, base, ops), aiohttp.ClientSession() as client:

        async def status(address: str) -> int:
            async with client.get(address) as answer:
                return answer.status

        async def not_ready() -> bool:
            return await status(f"{ops}/readyz") == 503

        process.send_signal(signal.SIGTERM)
        await eventually(not_ready)
        assert await status(f"{base}/readyz") == 503
        async with client.get(f"{base}/api/v1/leaderboard") as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 128 + signal.SIGTERM


async def test_the_operations_port_shows_the_drain(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    async with (
        started(fakes, certificates, redis_url, DRAIN_S="300") as (process, base, ops),
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{base}/ws/leaderboard") as socket,  # open for up to 15 s more
    ):
        await socket.send_json({"type": "connect", "id": 1, "subs": []})
        assert (await socket.receive_json())["type"] == "welcome"
        process.send_signal(signal.SIGTERM)
        assert (await socket.receive_json(timeout=10))["type"] == "shutdown"
        async with client.get(f"{ops}/readyz") as answer:
            assert answer.status == 503
        async with client.get(f"{ops}/metrics") as answer:
            assert "live_sockets 1.0" in await answer.text()


async def test_a_stop_answers_what_is_in_flight_and_takes_nothing_new(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    called, go = asyncio.Event(), asyncio.Event()

    async def wait() -> Any:
        called.set()
        await go.wait()
        return AWARD

    fakes.answers["Award"] = lambda item: wait()
    closing = asyncio.Event()
    opened: asyncio.Future[Edge] = asyncio.get_running_loop().create_future()

    async def gateway() -> None:
        async with edge_of(edge_settings(fakes, certificates, redis_url), fakes) as edge:
            opened.set_result(edge)
            await closing.wait()

    running = asyncio.create_task(gateway())
    edge = await opened
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in await reader.readline()
    in_flight = asyncio.create_task(edge.play("/scores/update", UPDATE))
    await called.wait()
    closing.set()

    async def refused() -> bool:
        try:
            _, other = await asyncio.open_connection("127.0.0.1", edge.port)
        except ConnectionError:
            return True
        other.close()
        return False

    await eventually(refused)
    # The connection that idled was ended, the one in use was not.
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    # Longer than what is cut off is given.
    done, _ = await asyncio.wait({in_flight, running}, timeout=1.5)
    assert not done
    go.set()
    answer = await in_flight
    await running

    assert answer.status == 200
    assert answer.headers["Connection"] == "close"


async def test_a_process_that_drains_says_when_to_look_again() -> None:
    unused: Any = None
    answer = await Probes(unused, draining=lambda: True).readyz(unused)

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
