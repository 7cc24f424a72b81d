"""How the parts are doing: every unit is asked every 2 s, and what was last heard is served."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Literal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import clock
from chassis.errors import Failed
from gateway.api.answers import Answer, rfc3339

PAUSE_S = 2.0
ASK_S = 1.5
STALE_S = 6.0  # what was heard longer ago counts as down

POSTGRES, REDIS = "postgres", "redis"
# Whom to ask about which of its dependencies.
DEPENDENCIES: Mapping[str, tuple[str, ...]] = {
    "auth": (POSTGRES, REDIS),
    "actions": (POSTGRES,),
    "scores": (POSTGRES, REDIS),
    "fraud": (POSTGRES, REDIS),
    "realtime": (REDIS,),
}
# Without these nobody can play; without the others the suite limps.
NEEDED = ("auth", "actions", "scores")

Part = Literal["up", "down"]


class Report(Answer):
    """How the suite is doing."""

    status: Literal["healthy", "degraded", "unhealthy"]
    redis: Part
    database: Part
    services: dict[str, Part]
    uptime: int  # of this gateway, s
    timestamp: str


class Health:
    """Asks the units over `channels`, by unit."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self._stubs: dict[str, Any] = {
            unit: health_pb2_grpc.HealthStub(channels[unit]) for unit in DEPENDENCIES
        }
        self._heard_s: dict[tuple[str, str], float] = {}  # when (unit, name) last said "serving"
        self._answered_s: dict[tuple[str, str], float] = {}  # when it last said anything
        self._started_s = time.monotonic()

    async def ask(self) -> None:
        """Asks all units once."""
        questions = [(unit, name) for unit, names in DEPENDENCIES.items() for name in ("", *names)]
        await asyncio.gather(*(self._ask(unit, name) for unit, name in questions))

    def report(self) -> Report:
        """What was last heard."""
        services: dict[str, Part] = {unit: self._part(unit) for unit in DEPENDENCIES}
        database, redis = self._dependency(POSTGRES), self._dependency(REDIS)
        status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
        if "down" in services.values():
            status = "degraded"
        if "down" in (redis, database, *(services[unit] for unit in NEEDED)):
            status = "unhealthy"
        uptime_s = int(time.monotonic() - self._started_s)
        return Report(status, redis, database, services, uptime_s, rfc3339(clock.now_ms()))

    async def _ask(self, unit: str, name: str) -> None:
        try:
            reply = await self._stubs[unit].Check(
                health_pb2.HealthCheckRequest(service=name), timeout=ASK_S
            )
        except Failed:
            return
        now_s = time.monotonic()
        self._answered_s[unit, name] = now_s
        if reply.status == health_pb2.HealthCheckResponse.SERVING:
            self._heard_s[unit, name] = now_s
        else:
            self._heard_s.pop((unit, name), None)

    def _part(self, unit: str) -> Part:
        return "up" if self._fresh(self._heard_s, unit, "") else "down"

    def _dependency(self, name: str) -> Part:
        """Down when a unit that is heard misses it, or when nobody is heard at all.

        A unit that is silent tells nothing of it: its own loss is shown as its own.
        """
        asked = [unit for unit, names in DEPENDENCIES.items() if name in names]
        answered = [unit for unit in asked if self._fresh(self._answered_s, unit, name)]
        fine = all(self._fresh(self._heard_s, unit, name) for unit in answered)
        return "up" if answered and fine else "down"

    @staticmethod
    def _fresh(times_s: Mapping[tuple[str, str], float], unit: str, name: str) -> bool:
        return time.monotonic() - times_s.get((unit, name), float("-inf")) < STALE_S
