"""What stands before every handler: the headers, the caller, the query, the body, the limits, the
ban, the key.

`Endpoint` is one route's handler behind them, `Checks` what all routes share.
"""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

import msgspec
from aiohttp import web

from chassis.errors import Failed, Forbidden
from chassis.rpc.server import deadline
from gateway.edge.addresses import Proxies
from gateway.edge.body import Body, Reader
from gateway.edge.errors import ValidationFailed
from gateway.edge.head import Parameter, QueryReader, check_single
from gateway.edge.idempotency import HEADER as IDEMPOTENCY_KEY
from gateway.edge.idempotency import Idempotency, Once, repeatable
from gateway.edge.identity import AccessTokenMissing, Caller, ScopeMissing, Verifier
from gateway.edge.limits import Limiter, Policy, RateLimited, checks
from gateway.edge.request import Request
from gateway.edge.sanctions import Sanctions
from gateway.upstreams import BUDGET_S

PUBLIC = "public"
PARAMETER = re.compile(r"\{(\w+):((?:[^{}]|\{[^{}]*\})+)\}")  # of a path: `{name:pattern}`

Handler = Callable[..., Awaitable[Any]]
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class AccountBanned(Forbidden):
    """This account is banned."""


@dataclass(frozen=True)
class Route:
    """One line of the API.

    `scope` is what the access token must hold, or PUBLIC; `optional`: there may be no token,
    but one that is there must be right. `policy` counts the user's requests; given a
    function, it names the policy of a body, or None. `once` says what an Idempotency-Key does,
    in the same way; None: nothing. `query` is what it may hold; None: anything, which is not
    looked at. `counted`: against the caller's address. `budget_s` is the time to answer; None:
    as long as it takes.
    """

    method: str
    path: str
    handler: Handler
    scope: str
    status: int = 200
    query: Sequence[Parameter] | None = ()
    optional: bool = False
    policy: Policy | Callable[[Any], Policy | None] | None = None
    once: Once | Callable[[Any], Once | None] | None = None
    counted: bool = True
    budget_s: float | None = BUDGET_S

    @property
    def template(self) -> str:
        """The path as metrics and logs have it: `/actions/{action_id}`."""
        return PARAMETER.sub(r"{\1}", self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What stands before every handler, of this process."""

    proxies: Proxies
    verifier: Verifier
    sanctions: Sanctions
    limiter: Limiter
    requests: Policy  # of an address
    idempotency: Idempotency

    def identify(self, request: Request, scope: str) -> Caller:
        """Raises AccessTokenMissing, AccessTokenInvalid, AccessTokenExpired, ScopeMissing."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise AccessTokenMissing
        caller = self.verifier.verify(token.strip())
        if not caller.may(scope):
            raise ScopeMissing(scope)
        return caller

    async def count(self, request: Request, policy: Policy | None) -> None:
        """Takes the request from all its limits at once. Raises RateLimited."""
        user_id = request.caller.user_id if policy else ""
        if policy and self.sanctions.flagged(user_id):
            policy = policy.half
        try:
            request.standing = await self.limiter.take(
                checks(request.address, self.requests, policy, user_id)
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
        self.method, self.path = route.method, route.template
        # A socket is open for hours, and what it gets belongs to others' requests.
        self.traced = route.budget_s is not None
        self._query = QueryReader(route.query)
        kind = get_type_hints(route.handler).get("body")
        self._reader: Reader[Body] | None = Reader(kind) if kind else None

    async def answer(self, request: Request) -> web.StreamResponse:
        """The answer of the handler. Raises Failed, or what the handler raises."""
        route = self._route
        refused: Failed | None = None
        body: Any = None
        try:
            body = await self._read(request)
        except Failed as failed:
            # Raised after the request was counted: unreadable requests are limited too.
            refused = failed
        if route.counted:
            await self._checks.count(request, _of_body(route.policy, body))
        if refused:
            raise refused
        if self._checks.sanctions.banned(request.caller.user_id):
            raise AccountBanned
        if route.budget_s is not None:
            deadline.set(time.monotonic() + route.budget_s)
        once = _of_body(route.once, body) if IDEMPOTENCY_KEY in request.headers else None
        if once:
            return await self._repeatable(request, body, once)
        return await self._handled(request, body)

    async def _read(self, request: Request) -> Any:
        """Takes the caller and the query in; returns the body, where the route takes one.

        Raises HeaderRepeated, what `identify` and `Reader.read` raise, and ValidationFailed with
        the faults of query and body.
        """
        route = self._route
        check_single(request.http)
        if route.scope != PUBLIC and ("Authorization" in request.headers or not route.optional):
            request.caller = self._checks.identify(request, route.scope)
        request.query, faults = self._query.read(request.http)
        body = None
        if self._reader:
            try:
                body = await self._reader.read(request)
            except ValidationFailed as failed:
                faults = [*faults, *failed.errors]
        if faults:
            raise ValidationFailed(errors=faults)
        return body

    async def _handled(self, request: Request, body: Any) -> web.StreamResponse:
        route = self._route
        answer = await (route.handler(request, body) if self._reader else route.handler(request))
        if isinstance(answer, web.StreamResponse):
            return answer
        return json(answer, status=route.status)

    async def _repeatable(self, request: Request, body: Any, once: Once) -> web.StreamResponse:
        """The answer to a request that came with an Idempotency-Key."""
        body_hash = once.body_hash(body, request.body)
        call = repeatable(request.http, subject=request.caller.user_id, body_hash=body_hash)
        request.key_hash = call.key_hash
        return await self._checks.idempotency.answer(
            call,
            lambda: self._handled(request, body),
            kept=once.kept,
            budget_s=self._route.budget_s or BUDGET_S,
            request_id=request.request_id,
        )


def _of_body(given: T | Callable[[Any], T | None] | None, body: Any) -> T | None:
    """What a route gives, or its function of the body; None too while there is no body."""
    if not callable(given):
        return given
    return None if body is None else given(body)


def json(answer: object, *, status: int = 200) -> web.Response:
    """A response with `answer` as its JSON."""
    return web.Response(
        body=_encode(answer), status=status, headers={"Content-Type": "application/json"}
    )
