"""The outermost of every request: its endpoint, its id, failures, metrics and the log line."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec
from aiohttp import web
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from chassis import telemetry
from chassis.batching import QueueFull
from chassis.errors import Failed, Forbidden, Internal, TooMany, Unauthenticated
from chassis.ids import uuid7
from chassis.telemetry import log, traces
from chassis.telemetry.traces import Described
from gateway.edge import errors
from gateway.edge.errors import MethodNotAllowed, NotFound
from gateway.edge.identity import AccessTokenExpired, AccessTokenMissing
from gateway.edge.middleware import PARAMETER, PUBLIC, Checks, Endpoint, Route
from gateway.edge.request import Request

http_requests = Counter("http_requests_total", "Requests answered", ["route", "method", "code"])
http_duration = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request",
    ["route", "method"],
    buckets=telemetry.BUCKETS_S,
)

UNKNOWN = "unknown"  # route and method, where there is none such

# Who may not, and who does too much, except for what happens to everyone.
_SECURITY = (Unauthenticated, Forbidden, TooMany)
_ORDINARY = (AccessTokenMissing, AccessTokenExpired)
_ORDINARY_CODES = frozenset({"REFRESH_EXPIRED", "TOO_MANY_PENDING"})  # of the services

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
    trace_id: str | msgspec.UnsetType = msgspec.UNSET  # of a sampled request
    address: str | msgspec.UnsetType = msgspec.UNSET  # in the stream security alone


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
        unknown = Route(UNKNOWN, UNKNOWN, self._refuse, PUBLIC, query=None)
        self._unknown = Endpoint(unknown, checks)

    async def answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request; raises nothing."""
        started_s = time.perf_counter()
        endpoint, request = self._found(http)
        if not endpoint.traced:
            return await self._answer(request, endpoint, started_s, None)
        with traces.root(http.headers, _served, endpoint) as span:
            return await self._answer(request, endpoint, started_s, span)

    async def _answer(
        self, request: Request, endpoint: Endpoint, started_s: float, span: Any
    ) -> web.StreamResponse:
        self.in_flight += 1
        failed: Failed | None = None
        try:
            response = await endpoint.answer(request)
        except Exception as error:
            failed = _failed(error, request)
            response = errors.response(failed, request.request_id)
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._landed.set()
        if not response.prepared:
            response.headers.merge(request.stamp())
            if self.draining:
                response.force_close()
        if span is not None:
            span.set_attribute("http.response.status_code", response.status)
            if failed is not None:
                traces.fail_with(span, failed.code, blame=response.status >= 500)
        _record(request, endpoint, response.status, failed, time.perf_counter() - started_s)
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


def _served(endpoint: Endpoint) -> Described:
    attributes = {"http.request.method": endpoint.method, "http.route": endpoint.path}
    if endpoint.path == UNKNOWN:
        attributes = {"http.request.method": "_OTHER"}
    return Described(f"{endpoint.method} {endpoint.path}", SpanKind.SERVER, attributes)


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


def _concerns_security(failed: Failed) -> bool:
    ordinary = isinstance(failed, _ORDINARY) or failed.code in _ORDINARY_CODES
    return isinstance(failed, _SECURITY) and not ordinary


def _record(
    request: Request, endpoint: Endpoint, status: int, failed: Failed | None, took_s: float
) -> None:
    count, duration = _meters(endpoint.path, endpoint.method, status)
    count.inc()
    trace_id = traces.trace_id()
    if status != 101:  # A socket's life is no time to answer.
        duration.observe(took_s, {"trace_id": trace_id} if trace_id else None)
    concerns_security = failed is not None and _concerns_security(failed)
    telemetry.write(
        RequestAnswered(
            event="request_answered",
            stream="security" if concerns_security else "app",
            method=endpoint.method,
            route=endpoint.path,
            status=status,
            code=failed.code if failed else "OK",
            took_ms=round(took_s * 1000, 1),
            request_id=request.request_id,
            user_id=request.caller.user_id or None,
            trace_id=trace_id or msgspec.UNSET,
            address=request.address if concerns_security else msgspec.UNSET,
        )
    )
