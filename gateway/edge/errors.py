"""Failures as the caller sees them: RFC 9457 problems, and the one table of HTTP statuses."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import Counter

from chassis.batching import QueueFull
from chassis.errors import (
    Failed,
    FieldError,
    Forbidden,
    Internal,
    Invalid,
    Missing,
    Timeout,
    Unavailable,
    Unprocessable,
)
from chassis.postgres import DbError
from gateway.edge.identity import AccessTokenExpired, AccessTokenInvalid, ScopeMissing
from protos.failure_pb2 import Failure

# Of a problem's `errors`, so that no request makes an answer larger than itself; who mends so
# many sees the rest the next time.
ERRORS_MAX = 32
FIELD_MAX, DETAIL_MAX = 128, 256  # characters of each, which may repeat what was sent

# The status of each kind of failure, unless the class has one of its own.
_STATUS: Mapping[int, int] = {
    Failure.INTERNAL: 500,
    Failure.INVALID: 400,
    Failure.UNPROCESSABLE: 422,
    Failure.UNAUTHENTICATED: 401,
    Failure.FORBIDDEN: 403,
    Failure.MISSING: 404,
    Failure.CONFLICT: 409,
    Failure.TOO_MANY: 429,
    Failure.UNAVAILABLE: 503,
    Failure.TIMEOUT: 504,
}


class BadRequest(Invalid):
    """This is not a well formed HTTP request."""


class MalformedJson(Invalid):
    """The body is not well formed JSON."""


class ValidationFailed(Unprocessable):
    """The request does not fit its schema."""


class NotFound(Missing):
    """There is nothing at this address."""


class MethodNotAllowed(Invalid):
    """This address does not know this method."""

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__()
        self.allowed = ", ".join(sorted(allowed))


class BodyTooLarge(Invalid):
    """The body is larger than 64 KiB."""


class UnsupportedMediaType(Invalid):
    """The body must be application/json, uncompressed."""


class BodyTimeout(Invalid):
    """The body did not arrive in time."""


class HeadersTooLarge(Invalid):
    """The request's head is too large."""


class ServiceUnavailable(Unavailable):
    """A part that is needed is unavailable; try again shortly."""


requests_shed = Counter(
    "requests_shed_total", "Requests refused for want of room, here or in a service", ["reason"]
)
SHED = {
    reason: requests_shed.labels(reason)
    for reason in ("queue_full", "sockets_per_process", "handshakes_per_s", "draining")
}

_OWN_STATUS: Mapping[type[Failed], int] = {
    MethodNotAllowed: 405,
    BodyTimeout: 408,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    HeadersTooLarge: 431,
}

# What RFC 6749 (5.2) calls the failures of a client that requests a token.
_OAUTH = frozenset(
    {
        "INVALID_REQUEST",
        "INVALID_CLIENT",
        "UNAUTHORIZED_CLIENT",
        "UNSUPPORTED_GRANT_TYPE",
        "INVALID_SCOPE",
    }
)


def shown(failed: Failed) -> Failed:
    """The failure as an outsider may see it: nothing of how we are built.

    What a peer named itself passes unchanged; what gRPC or our own queues said becomes
    a sentence of ours.
    """
    if failed.kind == Failure.INTERNAL and failed.code != DbError().code:
        return Internal()
    if isinstance(failed, QueueFull) or (
        failed.kind == Failure.UNAVAILABLE and failed.code == Unavailable().code
    ):
        return ServiceUnavailable(retry_after_s=failed.retry_after_s)
    if failed.kind == Failure.TIMEOUT and failed.code == Timeout().code:
        return Timeout()
    return failed


def response(failed: Failed, request_id: str) -> web.Response:
    """The answer to a failed request: a problem, and the headers that belong to it."""
    status = _OWN_STATUS.get(type(failed)) or _STATUS.get(failed.kind, 500)
    problem: dict[str, Any] = {
        **failed.facts,
        "type": f"urn:scoreboard:problem:{failed.code}",
        "title": failed.code.replace("_", " ").capitalize(),
        "status": status,
        "detail": failed.detail or HTTPStatus(status).description,
        "code": failed.code,
        "requestId": request_id,
    }
    headers = {"Content-Type": "application/problem+json"}
    if failed.code in _OAUTH:
        problem["error"] = failed.code.lower()
    if failed.errors:
        problem["errors"] = [
            FieldError(error.field[:FIELD_MAX], error.code, error.detail[:DETAIL_MAX])
            for error in failed.errors[:ERRORS_MAX]
        ]
    if failed.retry_after_s:
        problem["retryAfter"] = failed.retry_after_s
        headers["Retry-After"] = str(failed.retry_after_s)
    if failed.reference:
        problem["decisionId"] = failed.reference
    if isinstance(failed, MethodNotAllowed):
        headers["Allow"] = failed.allowed
    if challenge := _challenge(failed):
        headers["WWW-Authenticate"] = challenge
    return web.Response(body=msgspec.json.encode(problem), status=status, headers=headers)


def _challenge(failed: Failed) -> str:
    """The value of WWW-Authenticate, as RFC 6750 (3) has it; empty where no token would help.

    An error is named only where an access token was shown, so that a client knows whether to get
    another one.
    """
    is_scope = failed.code == Forbidden().code
    if failed.kind != Failure.UNAUTHENTICATED and not is_scope:
        return ""
    scheme = "Basic" if failed.code == "INVALID_CLIENT" else "Bearer"
    parts = {"realm": "scoreboard"}
    if is_scope or isinstance(failed, AccessTokenInvalid | AccessTokenExpired):
        parts["error"] = "insufficient_scope" if is_scope else "invalid_token"
        parts["error_description"] = failed.detail
    if isinstance(failed, ScopeMissing):
        parts["scope"] = failed.scope
    return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in parts.items())
