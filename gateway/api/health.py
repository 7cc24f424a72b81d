"""How the suite is doing: every unit is checked every 2 s, and the last result is served."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import clock
from chassis.errors import Failed
from gateway.api.answers import Answer
from gateway.edge.middleware import json
from gateway.edge.request import Request

PAUSE_S = 2.0
CHECK_S = 1.5
STALE_S = 6.0  # an older result counts as down

POSTGRES, REDIS = "postgres", "redis"
# The dependencies that each unit reports.
DEPENDENCIES: Mapping[str, tuple[str, ...]] = {
    "auth": (POSTGRES, REDIS),
    "actions": (POSTGRES,),
    "scores": (POSTGRES, REDIS),
    "fraud": (POSTGRES, REDIS),
    "realtime": (REDIS,),
}
# Without these no one can play; without the others the suite is degraded.
NEEDED = ("auth", "actions", "scores")

State = Literal["up", "down"]


class Report(Answer):
    """How the suite is doing."""

    status: Literal["healthy", "degraded", "unhealthy"]
    redis: State
    database: State
    services: dict[str, State]
    uptime: int  # of this gateway, s
    timestamp: str


class Health:
    """Checks the units over `channels`, by unit."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._stubs: dict[str, Any] = {
            unit: health_pb2_grpc.HealthStub(channels[unit]) for unit in DEPENDENCIES
        }
        # When a unit last reported on itself ("") or a dependency, and whether that serves.
        self._reports: dict[tuple[str, str], tuple[float, bool]] = {}
        self._started_s = time.monotonic()

    async def check(self) -> None:
        """Checks all units once."""
        parts = [(unit, name) for unit, names in DEPENDENCIES.items() for name in ("", *names)]
        await asyncio.gather(*(self._check(unit, name) for unit, name in parts))

    def report(self) -> Report:
        """The last results."""
        services: dict[str, State] = {unit: self._unit(unit) for unit in DEPENDENCIES}
        database, redis = self._dependency(POSTGRES), self._dependency(REDIS)
        status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
        if "down" in services.values():
            status = "degraded"
        if "down" in (redis, database, *(services[unit] for unit in NEEDED)):
            status = "unhealthy"
        return Report(
            status=status,
            redis=redis,
            database=database,
            services=services,
            uptime=int(time.monotonic() - self._started_s),
            timestamp=clock.rfc3339(clock.now_ms()),
        )

    async def _check(self, unit: str, name: str) -> None:
        try:
            reply = await self._stubs[unit].Check(
                health_pb2.HealthCheckRequest(service=name), timeout=CHECK_S
            )
        except Failed:
            return
        serves = reply.status == health_pb2.HealthCheckResponse.SERVING
        self._reports[unit, name] = time.monotonic(), serves

    def _unit(self, unit: str) -> State:
        return "up" if self._serves(unit, "") else "down"

    def _dependency(self, name: str) -> State:
        """Down when a unit reports it so, or when none reports: a silent unit is down itself."""
        found = [self._serves(unit, name) for unit, names in DEPENDENCIES.items() if name in names]
        return "up" if True in found and False not in found else "down"

    def _serves(self, unit: str, name: str) -> bool | None:
        """The last report; None: there is none that is fresh."""
        reported_s, serves = self._reports.get((unit, name), (float("-inf"), False))
        return serves if time.monotonic() - reported_s < STALE_S else None


class Probes:
    """Handlers for load balancers and people. `draining`: no new requests are welcome."""

    def __init__(self, health: Health, draining: Callable[[], bool]) -> None:
        self._health = health
        self._draining = draining

    async def health(self, request: Request) -> web.Response:
        """How the suite is doing; 503 where no player can play."""
        report = self._health.report()
        if report.status != "unhealthy":
            return json(report)
        response = json(report, status=503)
        response.headers["Retry-After"] = str(math.ceil(PAUSE_S))
        return response

    async def livez(self, request: Request) -> web.Response:
        """Whether the event loop turns."""
        return web.Response(text="ok\n")

    async def readyz(self, request: Request) -> web.Response:
        """Whether new requests are welcome."""
        if self._draining():
            return web.Response(text="no\n", status=503, headers={"Retry-After": "1"})
        return web.Response(text="ready\n")
