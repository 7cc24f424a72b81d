"""What happens around every handler, on the way in and on the way out.

`Gateway` is the outermost: request ids, failures, the log line, metrics. `Endpoint` stands
before one route's handler: the caller, the body, the limits. `Checks` is what they share.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

import msgspec
from aiohttp import web
from prometheus_client import Counter, Histogram

from chassis import telemetry
from chassis.errors import Failed, Forbidden, Internal
from chassis.ids import uuid7
from chassis.rpc.server import deadline
from chassis.telemetry import log
from gateway.edge import errors
from gateway.edge.addresses import Proxies
from gateway.edge.body import Body, Reader
from gateway.edge.errors import MethodNotAllowed, NotFound
from gateway.edge.idempotency import HEADER as IDEMPOTENCY_KEY
from gateway.edge.idempotency import Idempotency, Once, repeatable
from gateway.edge.identity import AccessTokenInvalid, Caller, Verifier
from gateway.edge.limits import Limiter, Policy, RateLimited, checks
from gateway.edge.request import Request
from gateway.edge.router import Router, template
from gateway.edge.sanctions import Sanctions
from gateway.edge.traffic import Traffic
from gateway.upstreams import BUDGET_S

PUBLIC = "public"

Handler = Callable[..., Awaitable[Any]]

http_requests = Counter("http_requests_total", "Requests answered", ["route", "method", "code"])
http_duration = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request",
    ["route", "method"],
    buckets=telemetry.BUCKETS_S,
)


class RequestAnswered(telemetry.Line):
    """The one line that is written for each request."""

    method: str
    route: str
    status: int
    code: str
    took_ms: float
    request_id: str
    user_id: str | None


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_encode = msgspec.json.Encoder().encode


class AccountBanned(Forbidden):
    """This account is banned."""


class ScopeMissing(Forbidden):
    """Your role does not allow this."""

    def __init__(self) -> None:
        super().__init__(code="FORBIDDEN")


@dataclass(frozen=True)
class Route:
    """One line of the API.

    `scope` is what the access token must hold, or PUBLIC; `optional`: there may be no token,
    but one that is there must be right. `policy` counts the user's requests; given a
    function, it names the policy of a body, or None. `once` says what an Idempotency-Key does,
    in the same way; None: nothing. `counted`: against the caller's address. `budget_s` is the
    time to answer; None: as long as it takes.
    """

    method: str
    path: str
    handler: Handler
    scope: str
    status: int = 200
    optional: bool = False
    policy: Policy | Callable[[Any], Policy | None] | None = None
    once: Once | Callable[[Any], Once | None] | None = None
    counted: bool = True
    budget_s: float | None = BUDGET_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What stands before every handler, of this process."""

    proxies: Proxies
    verifier: Verifier
    sanctions: Sanctions
    limiter: Limiter
    idempotency: Idempotency

    def identify(self, request: Request, scope: str) -> Caller:
        """Raises AccessTokenInvalid, AccessTokenExpired, ScopeMissing."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise AccessTokenInvalid
        caller = self.verifier.verify(token.strip())
        if not caller.may(scope):
            raise ScopeMissing
        return caller

    async def count(self, request: Request, policy: Policy | None) -> None:
        """Takes the request from all its limits at once. Raises RateLimited."""
        user_id = request.caller.user_id
        if not user_id:
            policy = None
        elif policy and self.sanctions.flagged(user_id):
            policy = policy.half
        try:
            request.standing = await self.limiter.take(
                checks(request.address, policy, user_id if policy else "")
            )
        except RateLimited as limited:
            request.standing = limited.standing
            raise


class Endpoint:
    """A route's handler behind its checks. A handler that takes a `body` gets it decoded.

    What it returns is encoded as JSON, unless it is a response already.
    """

    def __init__(self, route: Route, checks: Checks) -> None:
        self._route = route
        self._checks = checks
        self.method, self.path = route.method, template(route.path)  # as metrics call it
        kind = get_type_hints(route.handler).get("body")
        self._reader: Reader[Body] | None = Reader(kind) if kind else None

    async def answer(self, request: Request) -> web.StreamResponse:
        """What the handler answers. Raises Failed, or what the handler raises."""
        route = self._route
        refused: Failed | None = None
        body: Any = None
        try:
            if self._identifies(request):
                request.caller = self._checks.identify(request, route.scope)
            if self._reader:
                body = await self._reader.read(request)
        except Failed as failed:
            # Raised after the request was counted: unreadable requests are limited too.
            refused = failed
        if route.counted:
            await self._checks.count(request, self._policy(body))
        if refused:
            raise refused
        if self._checks.sanctions.banned(request.caller.user_id):
            raise AccountBanned
        if route.budget_s is not None:
            deadline.set(time.monotonic() + route.budget_s)
        with telemetry.span(route.path, request.headers):
            if route.once and IDEMPOTENCY_KEY in request.headers:
                return await self._repeatable(request, body)
            return await self._handled(request, body)

    async def _handled(self, request: Request, body: Any) -> web.StreamResponse:
        route = self._route
        answer = await (route.handler(request, body) if self._reader else route.handler(request))
        if isinstance(answer, web.StreamResponse):
            return answer
        return json(answer, status=route.status)

    async def _repeatable(self, request: Request, body: Any) -> web.StreamResponse:
        """The answer to a request that came with an Idempotency-Key."""
        once = self._route.once
        if once and not isinstance(once, Once):
            once = once(body)
        if once is None:
            return await self._handled(request, body)
        call = repeatable(
            request.http,
            subject=request.caller.user_id,
            body_hash=once.body_hash(body, request.body),
        )
        request.key_hash = call.key_hash
        return await self._checks.idempotency.answer(
            call,
            lambda: self._handled(request, body),
            kept=once.kept,
            budget_s=self._route.budget_s or BUDGET_S,
            request_id=request.request_id,
        )

    def _identifies(self, request: Request) -> bool:
        """Whether the caller matters."""
        if self._route.optional:
            return "Authorization" in request.headers
        return self._route.scope != PUBLIC

    def _policy(self, body: Any) -> Policy | None:
        policy = self._route.policy
        if policy is None or isinstance(policy, Policy):
            return policy
        return None if body is None else policy(body)


def json(answer: object, *, status: int = 200) -> web.Response:
    """A response with `answer` as its JSON."""
    return web.Response(
        body=_encode(answer), status=status, headers={"Content-Type": "application/json"}
    )


class Gateway:
    """Returns every request: finds the endpoint, counts, times and logs.

    Every answer has a request id, every failure is a problem, every request one log line.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        checks: Checks,
        traffic: Traffic,
        *,
        shutdown: Callable[[], Awaitable[object]],
    ) -> None:
        """`shutdown` closes long-lived connections, while requests in flight are answered."""
        self.traffic = traffic
        self.shutdown = shutdown
        self._proxies = checks.proxies
        self._router: Router[Endpoint] = Router()
        for route in routes:
            self._router.add(route.method, route.path, Endpoint(route, checks))
        # What no route answers is counted as any other. Its method and its path are the
        # caller's words, which metrics and logs do not repeat.
        self._unknown = Endpoint(Route("unknown", "unknown", self._refuse, PUBLIC), checks)

    async def answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request; raises nothing."""
        started = time.perf_counter()
        endpoint, request = self._found(http)
        traffic = self.traffic
        traffic.enter()
        code = "OK"
        try:
            response = await endpoint.answer(request)
        except Exception as error:
            failed = _failed(error, request)
            code = failed.code
            response = _problem(request, failed)
        finally:
            traffic.leave()
        if not response.prepared:
            response.headers.merge(request.stamp())
            if traffic.draining:
                response.force_close()
        _record(request, endpoint, response.status, code, time.perf_counter() - started)
        return response

    def _found(self, http: web.BaseRequest) -> tuple[Endpoint, Request]:
        methods, params = self._router.methods(http.rel_url.path_safe)
        endpoint = methods.get(http.method, self._unknown)
        given = http.headers.get("X-Request-Id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid7()
        address = self._proxies.address(http)
        return endpoint, Request(http, request_id=request_id, address=address, params=params)

    async def _refuse(self, request: Request) -> None:
        methods, _ = self._router.methods(request.http.rel_url.path_safe)
        raise MethodNotAllowed(methods) if methods else NotFound


def _failed(error: Exception, request: Request) -> Failed:
    """The failure as the caller sees it; what hides behind it is logged."""
    if not isinstance(error, Failed):
        log.exception("request_crashed", request_id=request.request_id)
        return Internal()
    shown = errors.shown(error)
    if shown is not error:
        log.warning("request_failed", request_id=request.request_id, error=repr(error))
    return shown


def _problem(request: Request, failed: Failed) -> web.Response:
    return web.Response(
        body=errors.problem(failed, request.request_id),
        status=errors.status(failed),
        headers=errors.headers(failed),
    )


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
