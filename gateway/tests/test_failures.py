"""The table of failures, row by row: what goes wrong, and what the caller is answered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from chassis import clock
from chassis.errors import (
    Conflict,
    Failed,
    FieldError,
    Forbidden,
    Internal,
    Invalid,
    Missing,
    Timeout,
    TooMany,
    Unavailable,
    Unprocessable,
)
from gateway.tests.edge import PROOF, UPDATE, Answered, Edge
from gateway.tests.services import ACTION, ADA, AT, AWARD

REDEEM: tuple[str, str, Any] = ("Award", "/scores/update", UPDATE)
COMPLETION = {"actionId": ACTION, "actionType": "WIN_GAME", "proof": PROOF, "timestamp": AT}
COMPLETE: tuple[str, str, Any] = ("Complete", "/actions/complete", COMPLETION)
REQUEST: tuple[str, str, Any] = ("Issue", "/actions/request", {"actionType": "WIN_GAME"})


class Row(NamedTuple):
    """A service refuses with `kind` and `code`, and the caller sees `status` and `code`."""

    code: str
    kind: type[Failed]
    status: int
    by: tuple[str, str, Any] = REDEEM
    retry_after_s: int = 0
    reference: str = ""


ROWS = (
    Row("TOKEN_INVALID", Invalid, 400),
    Row("TOKEN_ALREADY_USED", Invalid, 400),
    Row("TOKEN_EXPIRED", Invalid, 400),
    Row("TOKEN_MISMATCH", Forbidden, 403),
    Row("ACTION_NOT_FOUND", Missing, 404, COMPLETE),
    Row("ACTION_COMPLETED", Conflict, 409, COMPLETE),
    Row("ACTION_CLOSED", Conflict, 409),
    Row("SIGNATURE_INVALID", Forbidden, 403),
    Row("SUSPICIOUS_ACTIVITY", Invalid, 400, reference="decision-1"),
    Row("TIMESTAMP_OUT_OF_RANGE", Invalid, 400),
    Row("SCORE_OUT_OF_RANGE", Unprocessable, 422),
    Row("SCORE_MISMATCH", Forbidden, 403),
    Row("PROOF_REQUIRED", Unprocessable, 422),
    Row("ACTION_TYPE_UNKNOWN", Unprocessable, 422, REQUEST),
    Row("ACTION_TYPE_AUTHORITATIVE", Forbidden, 403, REQUEST),
    Row("DAILY_CAP_REACHED", TooMany, 429, REQUEST, retry_after_s=3600),
    Row("VALIDATION_FAILED", Unprocessable, 422),
    Row("ACCOUNT_BANNED", Forbidden, 403, reference="decision-2"),
    Row("TOO_MANY_PENDING", TooMany, 429, REQUEST, retry_after_s=31),
    Row("IDEMPOTENCY_KEY_REUSED", Unprocessable, 422),
    Row("QUEUED_FOR_REPLAY", Unavailable, 503, retry_after_s=5),
    Row("DB_UNAVAILABLE", Unavailable, 503, retry_after_s=1),
    Row("DB_ERROR", Internal, 500),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
async def test_what_a_service_refuses_for_is_what_the_caller_gets(edge: Edge, row: Row) -> None:
    method, path, body = row.by
    refusal = row.kind(
        "A sentence.", code=row.code, retry_after_s=row.retry_after_s, reference=row.reference
    )
    edge.fakes.answers[method] = edge.fakes.answers["IssuePatiently"] = refusal
    answer = await edge.play(path, body)

    assert (answer.status, answer.code) == (row.status, row.code)
    problem = answer.json()
    assert problem["detail"] == "A sentence."
    assert problem.get("decisionId", "") == row.reference
    assert problem.get("retryAfter", 0) == row.retry_after_s
    assert answer.headers.get("Retry-After", "0") == str(row.retry_after_s)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "WWW-Authenticate" not in answer.headers


# ---- what the edge finds by itself, or makes of what it receives ----


async def _malformed(edge: Edge) -> Answered:
    token = edge.fakes.signer.token()
    return await edge.call("POST", "/api/v1/scores/update", data=b"{", token=token)


async def _misfit(edge: Edge) -> Answered:
    return await edge.play("/scores/update", {**UPDATE, "extra": 1})


async def _no_token(edge: Edge) -> Answered:
    return await edge.call("POST", "/api/v1/scores/update", UPDATE)


async def _forged_token(edge: Edge) -> Answered:
    token = edge.fakes.signer.token()[:-4] + "AAAA"
    return await edge.call("POST", "/api/v1/scores/update", UPDATE, token=token)


async def _old_token(edge: Edge) -> Answered:
    token = edge.fakes.signer.token()
    with clock.ahead(700):
        return await edge.call("POST", "/api/v1/scores/update", UPDATE, token=token)


async def _no_scope(edge: Edge) -> Answered:
    token = edge.fakes.signer.token(scope="scores:read")
    return await edge.call("POST", "/api/v1/scores/update", UPDATE, token=token)


async def _too_often(edge: Edge) -> Answered:
    for _ in range(10):
        await edge.play("/scores/update", UPDATE)
    return await edge.play("/scores/update", UPDATE)


async def _at_once(edge: Edge) -> Answered:
    called, go = asyncio.Event(), asyncio.Event()

    async def held() -> Any:
        called.set()
        await go.wait()
        return AWARD

    edge.fakes.answers["Award"] = lambda item: held()
    headers = {"Idempotency-Key": "k"}
    first = asyncio.create_task(edge.play("/scores/update", UPDATE, headers=headers))
    await called.wait()
    second = await edge.play("/scores/update", UPDATE, headers=headers)
    go.set()
    await first
    return second


def _receiving(failure: Failed) -> Callable[[Edge], Awaitable[Answered]]:
    async def respond(edge: Edge) -> Answered:
        edge.fakes.answers["Award"] = failure
        return await edge.play("/scores/update", UPDATE)

    return respond


FOUND: dict[str, tuple[Callable[[Edge], Awaitable[Answered]], int, str, tuple[str, ...]]] = {
    "no JSON": (_malformed, 400, "MALFORMED_JSON", ()),
    "another schema": (_misfit, 422, "VALIDATION_FAILED", ()),
    "no token": (_no_token, 401, "UNAUTHENTICATED", ("WWW-Authenticate",)),
    "a bad token": (_forged_token, 401, "UNAUTHENTICATED", ("WWW-Authenticate",)),
    "an old token": (_old_token, 401, "ACCESS_TOKEN_EXPIRED", ("WWW-Authenticate",)),
    "no such scope": (_no_scope, 403, "FORBIDDEN", ()),
    "too often": (
        _too_often,
        429,
        "RATE_LIMITED",
        ("Retry-After", "RateLimit", "RateLimit-Policy"),
    ),
    "at once": (_at_once, 409, "REQUEST_IN_PROGRESS", ("Retry-After",)),
    "a part unavailable": (
        _receiving(Unavailable("UNAVAILABLE: no route")),
        503,
        "SERVICE_UNAVAILABLE",
        ("Retry-After",),
    ),
    "no answer in time": (_receiving(Timeout("DEADLINE: 5 s")), 504, "TIMEOUT", ()),
    "a bug": (_receiving(Internal("SELECT secret", code="BUG")), 500, "INTERNAL", ()),
}


@pytest.mark.parametrize("name", FOUND)
async def test_what_the_edge_finds_is_reported_in_the_same_way(edge: Edge, name: str) -> None:
    provoke, status, code, headers = FOUND[name]
    answer = await provoke(edge)

    assert (answer.status, answer.code) == (status, code)
    for header in headers:
        assert answer.headers[header]
    problem = answer.json()
    assert ("errors" in problem) == (code == "VALIDATION_FAILED")
    assert b"SELECT" not in answer.body


async def test_a_misfit_names_every_field_that_a_service_names(edge: Edge) -> None:
    edge.fakes.answers["Award"] = Unprocessable(
        code="VALIDATION_FAILED",
        errors=[FieldError(name, "RANGE", "no") for name in ("proof.evidence", "actionId")],
    )
    answer = await edge.play("/scores/update", UPDATE)

    assert [error["field"] for error in answer.json()["errors"]] == ["proof.evidence", "actionId"]


async def test_flagged_and_held_awards_are_awards(edge: Edge) -> None:
    flagged = type(AWARD)()
    flagged.CopyFrom(AWARD)
    flagged.warnings.append("UNDER_REVIEW")
    held = type(AWARD)()
    held.CopyFrom(AWARD)
    held.held = True
    held.ClearField("rank")
    held.ClearField("old_rank")
    for award, fields in (
        (flagged, {"warnings": ["UNDER_REVIEW"], "held": False, "rank": 2}),
        (held, {"warnings": [], "held": True, "rank": None, "newRank": None, "oldRank": None}),
    ):
        edge.fakes.answers["Award"] = award
        answer = await edge.play("/scores/update", UPDATE)
        assert answer.status == 200
        assert {name: answer.json()[name] for name in fields} == fields
    assert answer.json()["userId"] == ADA
