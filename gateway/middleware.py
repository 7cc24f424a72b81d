"""What happens around every handler, on the way in and on the way out.

`around` is the outermost: request ids, failures, the log line, metrics. `Endpoint` stands
before one route's handler: who calls, what they sent, how often they may.
"""

import inspect
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

import msgspec
from aiohttp import web
from prometheus_client import Counter, Histogram

from chassis import telemetry
from chassis.errors import Failed, Forbidden, Internal
from chassis.ids import uuid7
from chassis.server import deadline
from chassis.telemetry import log
from gateway import errors
from gateway.addresses import prefix
from gateway.body import Body, Reader
from gateway.errors import MethodNotAllowed, NotFound
from gateway.idempotency import HEADER as IDEMPOTENCY_KEY
from gateway.idempotency import Once, repeatable
from gateway.identity import AccessTokenInvalid, Identity
from gateway.limits import REQUESTS, Check, Policy, RateLimited
from gateway.resources import (
    ADDRESS,
    IDEMPOTENCY,
    IDENTITY,
    KEY_HASH,
    LIMITER,
    REQUEST_ID,
    SANCTIONS,
    SETTINGS,
    STANDING,
    TRAFFIC,
    VERIFIER,
)
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


class Endpoint:
    """A route's handler behind its checks. A handler that takes a `body` is given it decoded.

    What it returns is encoded as JSON, unless it is a response already.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        kind = get_type_hints(route.handler).get("body")
        self._reader: Reader[Body] | None = Reader(kind) if kind else None
        self._takes_body = "body" in inspect.signature(route.handler).parameters

    async def answer(self, request: web.Request) -> web.StreamResponse:
        route = self._route
        refused: Failed | None = None
        identity: Identity | None = None
        body: Any = None
        try:
            if self._identifies(request):
                identity = request[IDENTITY] = _identify(request, route.scope)
            if self._reader:
                body = await self._reader.read(request)
        except Failed as failed:
            # Held back until the request was counted: who only sends rubbish is limited too.
            refused = failed
        if route.counted:
            await _count(request, identity, self._policy(body))
        if refused:
            raise refused
        if identity and request.app[SANCTIONS].banned(identity.user_id):
            raise AccountBanned
        if route.budget_s is not None:
            deadline.set(time.monotonic() + route.budget_s)
        with telemetry.span(route.path, request.headers):
            if route.once and identity and IDEMPOTENCY_KEY in request.headers:
                return await self._repeatable(request, identity, body)
            return await self._handled(request, body)

    async def _handled(self, request: web.Request, body: Any) -> web.StreamResponse:
        route = self._route
        answer = await (
            route.handler(request, body) if self._takes_body else route.handler(request)
        )
        if isinstance(answer, web.StreamResponse):
            return answer
        return json(answer, status=route.status)

    async def _repeatable(
        self, request: web.Request, identity: Identity, body: Any
    ) -> web.StreamResponse:
        """The answer to a request that came with an Idempotency-Key."""
        once = self._route.once
        if once and not isinstance(once, Once):
            once = once(body)
        if once is None:
            return await self._handled(request, body)
        call = repeatable(
            request,
            subject=identity.user_id,
            body_hash=once.body_hash(body, await request.read()),
        )
        request[KEY_HASH] = call.key_hash
        return await request.app[IDEMPOTENCY].answer(
            call,
            lambda: self._handled(request, body),
            kept=once.kept,
            budget_s=self._route.budget_s or BUDGET_S,
            request_id=request[REQUEST_ID],
        )

    def _identifies(self, request: web.Request) -> bool:
        """Whether it matters who asks."""
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


@web.middleware
async def around(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every answer has a request id, every failure is a problem, every request one log line."""
    started = time.perf_counter()
    app = request.app
    given = request.headers.get("X-Request-Id")
    request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid7()
    request[REQUEST_ID] = request_id
    request[ADDRESS] = app[SETTINGS].trusted_proxies.address(request)
    traffic = app[TRAFFIC]
    traffic.enter()
    code = "OK"
    try:
        response = await _answered(request, handler)
    except Failed as failed:
        shown = errors.shown(failed)
        code = shown.code
        response = _problem(request, shown)
        if shown is not failed:
            log.warning("request_failed", request_id=request_id, error=repr(failed))
    finally:
        traffic.leave()
    if traffic.draining and not response.prepared:
        response.force_close()
    _record(request, response.status, code, time.perf_counter() - started)
    return response


async def stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Adds what every answer carries, sockets and files among them."""
    headers = {
        "X-Request-Id": request[REQUEST_ID],
        "Server": "scoreboard",
        "X-Content-Type-Options": "nosniff",
    }
    if STANDING in request:
        headers |= request[STANDING].headers()
    response.headers.update(headers)
    response.headers.setdefault("Cache-Control", "no-store")


async def _answered(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The handler's answer. Raises Failed and nothing else."""
    try:
        if request.match_info.http_exception is not None:
            await _count(request, None, None)
        return await handler(request)
    except Failed:
        raise
    except web.HTTPNotFound:
        raise NotFound from None
    except web.HTTPMethodNotAllowed as refusal:
        request[ALLOW] = ", ".join(sorted(refusal.allowed_methods))
        raise MethodNotAllowed from None
    except Exception:
        log.exception("request_crashed", request_id=request[REQUEST_ID])
        raise Internal from None


ALLOW = web.RequestKey("allow", str)  # the methods that an address does know


def _identify(request: web.Request, scope: str) -> Identity:
    """Raises AccessTokenInvalid, AccessTokenExpired, ScopeMissing."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise AccessTokenInvalid
    identity = request.app[VERIFIER].verify(token.strip())
    if not identity.may(scope):
        raise ScopeMissing
    return identity


async def _count(request: web.Request, identity: Identity | None, policy: Policy | None) -> None:
    """Takes the request from all its limits at once. Raises RateLimited."""
    checks = [Check(REQUESTS, prefix(request[ADDRESS]))]
    if policy and identity:
        flagged = request.app[SANCTIONS].flagged(identity.user_id)
        checks.append(Check(policy.half if flagged else policy, identity.user_id))
    try:
        request[STANDING] = await request.app[LIMITER].take(checks)
    except RateLimited as limited:
        request[STANDING] = limited.standing
        raise


def _problem(request: web.Request, failed: Failed) -> web.Response:
    response = web.Response(
        body=errors.problem(failed, request[REQUEST_ID]),
        status=errors.status(failed),
        headers=errors.headers(failed),
    )
    allow = request.get(ALLOW)
    if allow is not None:
        response.headers["Allow"] = allow
    return response


@cache
def _meters(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    # Kept, since finding them by their labels costs more than counting does.
    return http_requests.labels(route, method, str(status)), http_duration.labels(route, method)


def _record(request: web.Request, status: int, code: str, took_s: float) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "unknown"
    # A method is the caller's word until a route knows it.
    method = request.method if resource else "unknown"
    count, duration = _meters(route, method, status)
    count.inc()
    if status != 101:  # A socket's life is no time to answer.
        duration.observe(took_s)
    identity = request.get(IDENTITY)
    log.info(
        "request_answered",
        method=method,
        route=route,
        status=status,
        code=code,
        took_ms=round(took_s * 1000, 1),
        request_id=request[REQUEST_ID],
        user_id=identity.user_id if identity else None,
    )
