"""The outermost of every request: its endpoint, its id, failures, metrics and the log line."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache

from aiohttp import web
from prometheus_client import Counter, Histogram

from chassis import telemetry
from chassis.batching import QueueFull
from chassis.errors import Failed, Internal
from chassis.ids import uuid7
from chassis.telemetry import log
from gateway.edge import errors
from gateway.edge.errors import MethodNotAllowed, NotFound
from gateway.edge.middleware import PARAMETER, PUBLIC, Checks, Endpoint, Route
from gateway.edge.request import Request

http_requests = Counter("http_requests_total", "Requests answered", ["route", "method", "code"])
http_duration = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request",
    ["route", "method"],
    buckets=telemetry.BUCKETS_S,
)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NO_PARAMETERS: Mapping[str, str] = {}


class RequestAnswered(telemetry.Line):
    """The one line that is written for each request."""

    method: str
    route: str
    status: int
    code: str
    took_ms: float
    request_id: str
    user_id: str | None


class Gateway:
    """Returns every request: finds the endpoint, counts, times and logs.

    Every answer has a request id, every failure is a problem, every request one log line.
    """

    def __init__(
        self, routes: Iterable[Route], checks: Checks, *, shutdown: Callable[[], Awaitable[object]]
    ) -> None:
        """`shutdown` closes long-lived connections, while requests in flight are answered."""
        self.draining = False  # Answers end their connections then.
        self.in_flight = 0
        self._landed = asyncio.Event()
        self._shutdown = shutdown
        self._proxies = checks.proxies
        # Endpoints by method: of paths without parameters, and of patterns, tried in turn.
        self._plain: dict[str, dict[str, Endpoint]] = {}
        self._patterns: dict[re.Pattern[str], dict[str, Endpoint]] = {}
        for route in routes:
            if "{" in route.path:
                pattern = re.compile(PARAMETER.sub(r"(?P<\1>\2)", route.path))
                methods = self._patterns.setdefault(pattern, {})
            else:
                methods = self._plain.setdefault(route.path, {})
            methods[route.method] = Endpoint(route, checks)
        # A request without a route is counted as any other. Its method and its path are the
        # caller's words, which metrics and logs do not repeat.
        unknown = Route("unknown", "unknown", self._refuse, PUBLIC, query=None)
        self._unknown = Endpoint(unknown, checks)

    async def answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request; raises nothing."""
        started_s = time.perf_counter()
        endpoint, request = self._found(http)
        self.in_flight += 1
        code = "OK"
        try:
            response = await endpoint.answer(request)
        except Exception as error:
            failed = _failed(error, request)
            code = failed.code
            response = errors.response(failed, request.request_id)
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._landed.set()
        if not response.prepared:
            response.headers.merge(request.stamp())
            if self.draining:
                response.force_close()
        _record(request, endpoint, response.status, code, time.perf_counter() - started_s)
        return response

    async def drained(self) -> None:
        """Returns when long-lived connections are closed and nothing is in flight."""
        await self._shutdown()
        while self.in_flight:
            self._landed.clear()
            await self._landed.wait()

    def _found(self, http: web.BaseRequest) -> tuple[Endpoint, Request]:
        methods, params = self._methods(http.rel_url.path_safe)
        given = http.headers.get("X-Request-Id")
        return methods.get(http.method, self._unknown), Request(
            http=http,
            request_id=given if given and _REQUEST_ID.fullmatch(given) else uuid7(),
            address=self._proxies.address(http),
            params=params,
        )

    def _methods(self, path: str) -> tuple[Mapping[str, Endpoint], Mapping[str, str]]:
        """The endpoints of a path by method, and its parameters."""
        plain = self._plain.get(path)
        if plain is not None:
            return plain, _NO_PARAMETERS
        for pattern, methods in self._patterns.items():
            match = pattern.fullmatch(path)
            if match is not None:
                return methods, match.groupdict()
        return {}, _NO_PARAMETERS

    async def _refuse(self, request: Request) -> None:
        methods, _ = self._methods(request.http.rel_url.path_safe)
        raise MethodNotAllowed(methods) if methods else NotFound


def _failed(error: Exception, request: Request) -> Failed:
    """The failure as the caller sees it; what hides behind it is logged."""
    if not isinstance(error, Failed):
        log.exception("request_crashed", request_id=request.request_id)
        return Internal()
    if error.code == QueueFull().code:
        errors.SHED["queue_full"].inc()
    shown = errors.shown(error)
    if shown is not error:
        log.warning("request_failed", request_id=request.request_id, error=repr(error))
    return shown


@cache
def _meters(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    # Kept, since finding them by their labels costs more than counting does.
    return http_requests.labels(route, method, str(status)), http_duration.labels(route, method)


def _record(request: Request, endpoint: Endpoint, status: int, code: str, took_s: float) -> None:
    count, duration = _meters(endpoint.path, endpoint.method, status)
    count.inc()
    if status != 101:  # A socket's life is no time to answer.
        duration.observe(took_s)
    telemetry.write(
        RequestAnswered(
            event="request_answered",
            method=endpoint.method,
            route=endpoint.path,
            status=status,
            code=code,
            took_ms=round(took_s * 1000, 1),
            request_id=request.request_id,
            user_id=request.caller.user_id or None,
        )
    )
