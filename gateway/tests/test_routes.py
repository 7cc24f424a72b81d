"""Every route: what it asks of the services, what it answers, who may use it."""

import hashlib
import json
from typing import Any

import pytest

from chassis.errors import Conflict, Missing, TooMany, Unprocessable
from gateway.edge.middleware import PUBLIC
from gateway.routes import ID
from gateway.tests.edge import PROOF, UPDATE, Edge, api
from gateway.tests.services import (
    ACTION,
    ADA,
    ADMIN,
    AT,
    AWARD,
    ISSUED,
    MODERATOR,
    PLAYER,
)
from protos import actions_pb2, scores_pb2

AWARDED = {
    "actionId": ACTION,
    "userId": ADA,
    "oldScore": 50,
    "newScore": 100,
    "scoreIncrement": 50,
    "rank": 2,
    "newRank": 2,
    "oldRank": 4,
    "version": 2,
    "timestamp": AT,
    "warnings": [],
    "held": False,
}


@pytest.mark.parametrize(
    ("path", "body", "status", "method"),
    [
        ("register", {"username": "ada", "password": "p", "email": "a@b.c"}, 201, "Register"),
        ("login", {"username": "ada", "password": "p", "tokenDelivery": "body"}, 200, "Login"),
        ("refresh", {"refreshToken": "rt1"}, 200, "Refresh"),
    ],
)
async def test_accounts_answer_a_session(
    edge: Edge, path: str, body: dict[str, str], status: int, method: str
) -> None:
    answer = await edge.call(
        "POST", f"/api/v1/auth/{path}", body, headers={"User-Agent": "x" * 300}
    )

    assert answer.status == status
    assert answer.json() == {
        "userId": ADA,
        "username": "ada",
        "accessToken": "at",
        "refreshToken": "rt",
        "tokenType": "Bearer",
        "expiresIn": 600,
    }
    assert answer.headers["Cache-Control"] == "no-store"
    sent = edge.fakes.received(method)
    assert sent.client.address == "198.51.100.7"
    assert sent.client.user_agent == "x" * 256


async def test_the_public_keys_stand_at_the_root(edge: Edge) -> None:
    answer = await edge.call("GET", "/.well-known/jwks.json")

    assert answer.status == 200
    assert answer.json() == {"keys": [edge.fakes.signer.public()]}


async def test_the_catalogue_is_public(edge: Edge) -> None:
    answer = await edge.call("GET", "/api/v1/actions/types")

    assert answer.json()["types"] == [
        {
            "actionType": "WIN_GAME",
            "title": "Win a game",
            "points": 50,
            "minDurationMs": 1000,
            "maxDurationMs": 300_000,
            "tokenTtlS": 330,
            "dailyCap": None,
            "maxOpen": 5,
            "authoritative": False,
            "formula": None,
            "pointsMin": None,
            "pointsMax": None,
        }
    ]


@pytest.mark.parametrize("path", ["request", "token"])
async def test_an_action_is_requested_at_either_address(edge: Edge, path: str) -> None:
    answer = await edge.play(f"/actions/{path}", {"actionType": "WIN_GAME"})

    assert answer.status == 201
    assert answer.json() == {
        "actionId": ACTION,
        "actionType": "WIN_GAME",
        "actionToken": "v1.token",
        "signingKey": "key",
        "nonce": "nonce",
        "issuedAt": AT,
        "expiresAt": "2027-01-15T08:05:30.123Z",
        "expiresIn": 330,
        "scoreIncrement": 50,
        "minDurationMs": 1000,
        "maxDurationMs": 300_000,
    }
    assert edge.fakes.received("Issue").user_id == ADA


async def test_what_a_formula_will_compute_is_null_in_the_answer_to_request(edge: Edge) -> None:
    unpriced = actions_pb2.Issued()
    unpriced.CopyFrom(ISSUED)
    unpriced.ClearField("score_increment")
    edge.fakes.answers["Issue"] = unpriced
    answer = await edge.play("/actions/request", {"actionType": "WIN_GAME"})

    assert answer.json()["scoreIncrement"] is None


async def test_who_has_too_many_open_tokens_calls_again_in_a_batch_that_may_wait(
    edge: Edge,
) -> None:
    edge.fakes.answers["Issue"] = TooMany(code="TOO_MANY_PENDING")
    assert (await edge.play("/actions/request", {"actionType": "WIN_GAME"})).status == 201

    edge.fakes.answers["IssuePatiently"] = TooMany(code="TOO_MANY_PENDING")
    refused = await edge.play("/actions/request", {"actionType": "WIN_GAME"})
    assert (refused.status, refused.json()["code"]) == (429, "TOO_MANY_PENDING")
    assert len(edge.fakes.calls["IssuePatiently"]) == 2

    edge.fakes.answers["Issue"] = TooMany(code="DAILY_CAP_REACHED")
    capped = await edge.play("/actions/request", {"actionType": "WIN_GAME"})
    assert capped.json()["code"] == "DAILY_CAP_REACHED"
    assert len(edge.fakes.calls["IssuePatiently"]) == 2


async def test_complete_without_a_token_verifies(edge: Edge) -> None:
    body = {"actionId": ACTION, "actionType": "WIN_GAME", "proof": PROOF, "timestamp": AT}
    answer = await edge.play("/actions/complete", body)

    assert answer.json() == {
        "actionId": ACTION,
        "actionToken": "v1.fresh",
        "expiresIn": 300,
        "scoreIncrement": 50,
    }
    sent = edge.fakes.received("Complete")
    assert (sent.user_id, sent.claims.action_id, sent.claims.timestamp) == (ADA, ACTION, AT)
    assert sent.claims.proof.completion_time_ms == 5000
    assert not edge.fakes.calls["Award"]


async def test_complete_with_a_token_awards(edge: Edge) -> None:
    evidence = {"z": [1, True, None], "ä": "\n", "a": -0}
    body = {"actionToken": "v1.t", "proof": {**PROOF, "evidence": evidence}, "timestamp": AT}
    answer = await edge.play("/actions/complete", body)

    assert answer.json() == AWARDED
    sent = edge.fakes.received("Award")
    assert (sent.attempt.user_id, sent.username, sent.name_version) == (ADA, "ada", 3)
    assert sent.attempt.action_token == "v1.t"
    assert not sent.attempt.claims.HasField("action_id")
    assert sent.attempt.claims.proof.evidence == '{"a":0,"z":[1,true,null],"ä":"\\n"}'.encode()


async def test_update_states_every_claim(edge: Edge) -> None:
    raw = json.dumps(UPDATE).encode()
    answer = await edge.call(
        "POST",
        "/api/v1/scores/update",
        data=raw,
        token=edge.fakes.signer.token(),
        headers={"X-Action-Token": "v1.t", "Idempotency-Key": '"k1"'},
    )

    assert answer.json() == AWARDED
    sent = edge.fakes.received("Award")
    assert sent.attempt.claims.user_id == ADA
    assert sent.attempt.claims.score_increment == 50
    assert sent.attempt.claims.client_signature == "ab" * 32
    assert not sent.attempt.claims.HasField("proof")
    assert sent.body_hash == hashlib.sha256(raw).digest()
    scope = f"{ADA}\nPOST /api/v1/scores/update\nk1"
    assert sent.key_hash == hashlib.sha256(scope.encode()).digest()


async def test_each_request_is_an_attempt_of_its_own_by_no_id_of_the_caller(
    edge: Edge,
) -> None:
    for _ in range(2):
        await edge.play("/scores/update", UPDATE, headers={"X-Request-Id": "same"})

    first, second = edge.fakes.calls["Award"]
    assert first.attempt.attempt_id != second.attempt.attempt_id
    assert "same" not in (first.attempt.attempt_id, second.attempt.attempt_id)
    assert first.key_hash == b""


async def test_a_quoted_key_and_the_same_bare_are_one(edge: Edge) -> None:
    for key in ('"k"', "k"):
        await edge.play("/scores/update", UPDATE, headers={"Idempotency-Key": key})

    first, second = edge.fakes.calls["Award"]
    assert first.key_hash == second.key_hash


async def test_a_key_that_is_none_is_named(edge: Edge) -> None:
    answer = await edge.play("/scores/update", UPDATE, headers={"Idempotency-Key": "k" * 300})

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


async def test_increment_takes_a_signature_or_a_proof_and_wants_one(edge: Edge) -> None:
    signed = {"timestamp": AT, "clientSignature": "ab" * 32}
    assert (await edge.play("/scores/increment", signed)).json() == AWARDED
    assert (await edge.play("/scores/increment", {"timestamp": AT, "proof": PROOF})).status == 200
    answer = await edge.play("/scores/increment", {"timestamp": AT})

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == "clientSignature"


async def test_ranks_that_are_unavailable_are_null(edge: Edge) -> None:
    unranked = scores_pb2.Award()
    unranked.CopyFrom(AWARD)
    unranked.ClearField("rank")
    unranked.ClearField("old_rank")
    unranked.warnings.append("RANK_UNAVAILABLE")
    edge.fakes.answers["Award"] = unranked
    answer = await edge.play("/scores/update", UPDATE)

    found = answer.json()
    assert (found["rank"], found["newRank"], found["oldRank"]) == (None, None, None)
    assert found["warnings"] == ["RANK_UNAVAILABLE"]


async def test_a_receipt_is_the_award_again(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    answer = await edge.call("GET", f"/api/v1/me/scores/{ACTION}", token=token)

    assert answer.json() == AWARDED
    assert edge.fakes.received("Receipt").user_id == ADA


async def test_one_s_own_ledger_comes_in_pages(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    answer = await edge.call("GET", "/api/v1/me/scores?limit=2&cursor=newer", token=token)

    award = {
        "actionId": ACTION,
        "kind": "award",
        "actionType": "WIN_GAME",
        "points": 50,
        "oldScore": 50,
        "newScore": 100,
        "version": 2,
        "timestamp": AT,
    }
    assert answer.json() == {
        "rows": [
            {
                **award,
                "actionId": "0190a000-0000-7000-8000-0000000000ab",
                "kind": "void",
                "originId": ACTION,
                "points": -50,
                "oldScore": 100,
                "newScore": 50,
                "version": 3,
            },
            award,
        ],
        "nextCursor": "older",
    }
    sent = edge.fakes.received("History")
    assert (sent.user_id, sent.limit, sent.cursor) == (ADA, 2, "newer")
    edge.fakes.answers["History"] = scores_pb2.HistoryReply()
    answer = await edge.call("GET", "/api/v1/me/scores", token=token)
    assert answer.json() == {"rows": [], "nextCursor": None}


async def test_an_action_shows_its_state(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    answer = await edge.call("GET", f"/api/v1/actions/{ACTION}", token=token)

    assert answer.json() == {
        "actionId": ACTION,
        "actionType": "WIN_GAME",
        "state": "requested",
        "issuedAt": AT,
        "expiresAt": AT,
    }


async def test_a_service_s_refusal_passes_unchanged(edge: Edge) -> None:
    edge.fakes.answers["Award"] = Unprocessable("No.", code="SCORE_OUT_OF_RANGE", reference="d-1")
    edge.fakes.answers["Get"] = Missing("None.", code="ACTION_NOT_FOUND")
    refused = await edge.play("/scores/update", {**UPDATE, "scoreIncrement": 10**30})
    missing = await edge.call("GET", f"/api/v1/actions/{ACTION}", token=edge.fakes.signer.token())

    assert (refused.status, refused.code) == (422, "SCORE_OUT_OF_RANGE")
    assert refused.json()["detail"] == "No."
    assert refused.json()["decisionId"] == "d-1"
    assert (missing.status, missing.code) == (404, "ACTION_NOT_FOUND")


async def test_an_action_is_given_up_by_its_player(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    answer = await edge.call("DELETE", f"/api/v1/actions/{ACTION}", token=token)

    assert (answer.status, answer.body) == (204, b"")
    assert "Content-Type" not in answer.headers
    assert answer.headers["X-Request-Id"]
    request = edge.fakes.received("GiveUp")
    assert (request.user_id, request.action_id) == (ADA, ACTION)


async def test_an_action_that_was_awarded_is_not_given_up(edge: Edge) -> None:
    edge.fakes.answers["GiveUp"] = Conflict(code="ACTION_AWARDED")
    token = edge.fakes.signer.token()
    answer = await edge.call("DELETE", f"/api/v1/actions/{ACTION}", token=token)

    assert (answer.status, answer.code) == (409, "ACTION_AWARDED")


# ---- who may ----

# What each route requires, said a second time: a route that is not here fails the test.
SCOPES: dict[tuple[str, str], str] = {
    ("POST", "/api/v1/auth/register"): PUBLIC,
    ("POST", "/api/v1/auth/login"): PUBLIC,
    ("POST", "/api/v1/auth/refresh"): PUBLIC,
    ("POST", "/api/v1/auth/token"): PUBLIC,
    ("GET", "/.well-known/jwks.json"): PUBLIC,
    ("GET", "/api/v1/actions/types"): PUBLIC,
    ("POST", "/api/v1/actions/request"): "actions:write",
    ("POST", "/api/v1/actions/token"): "actions:write",
    ("POST", "/api/v1/actions/complete"): "actions:write",
    ("GET", "/api/v1/actions/{action_id}"): "actions:write",
    ("DELETE", "/api/v1/actions/{action_id}"): "actions:write",
    ("POST", "/api/v1/scores/update"): "actions:write",
    ("POST", "/api/v1/scores/increment"): "actions:write",
    ("POST", "/api/v1/scores/award"): "scores:award",
    ("GET", "/api/v1/me/scores"): "scores:read",
    ("GET", "/api/v1/me/scores/{action_id}"): "scores:read",
    ("GET", "/api/v1/leaderboard"): "scores:read",
    ("GET", "/api/v1/leaderboards"): "scores:read",
    ("GET", "/api/v1/leaderboards/{board}"): "scores:read",
    ("GET", "/api/v1/leaderboards/{board}/players/me"): "scores:read",
    ("GET", "/api/v1/leaderboards/{board}/players/{user_id}"): "scores:read",
    ("POST", "/api/v1/leaderboards/{board}/ranks"): "scores:read",
    ("GET", "/api/v1/leaderboards/{board}/would-be"): "scores:read",
    ("GET", "/api/v1/admin/action-types"): "catalogue:write",
    ("POST", "/api/v1/admin/action-types"): "catalogue:write",
    ("PATCH", "/api/v1/admin/action-types/{action_type}"): "catalogue:write",
    ("GET", "/api/v1/admin/boards"): "boards:write",
    ("POST", "/api/v1/admin/boards"): "boards:write",
    ("POST", "/api/v1/admin/scores/void"): "scores:void",
    ("POST", "/api/v1/admin/scores/restore"): "scores:void",
    ("GET", "/ws/leaderboard"): PUBLIC,
    ("GET", "/"): PUBLIC,
    ("GET", "/static/{name}"): PUBLIC,
    ("GET", "/health"): PUBLIC,
    ("GET", "/livez"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
}
# Which of them are for everybody too, though a token that is shown must be right.
OPEN = {
    ("GET", "/api/v1/leaderboard"),
    ("GET", "/api/v1/leaderboards"),
    ("GET", "/api/v1/leaderboards/{board}"),
    ("GET", "/api/v1/leaderboards/{board}/players/{user_id}"),
    ("POST", "/api/v1/leaderboards/{board}/ranks"),
    ("GET", "/api/v1/leaderboards/{board}/would-be"),
}
# A role, and the scopes of its tokens. Two have more than auth would ever give them.
ROLES = {
    "anonymous": None,
    "player": PLAYER,
    "moderator": MODERATOR,
    "admin": ADMIN,
    "none": "",
    "game server": "scores:award",
    "player who awards": f"{ADMIN} scores:award",
    "game server that plays": f"{ADMIN} scores:award",
}


def _template(path: str) -> str:
    """The path as metrics and logs name it."""
    for pattern in (f":{ID}", ":[a-z0-9_-]{1,64}", ":[A-Za-z0-9._-]{1,64}", ":[A-Z0-9_]{1,40}"):
        path = path.replace(pattern, "")
    return path


def _may(role: str, scope: str) -> bool:
    """Whether a role opens a scope: awarding is for game servers, who may do nothing else."""
    held = ROLES[role]
    return scope in (held or "").split() and (scope == "scores:award") == ("server" in role)


def test_every_route_is_listed_here() -> None:
    assert {(r.method, _template(r.path)): r.scope for r in api()} == SCOPES
    assert {(r.method, _template(r.path)) for r in api() if r.optional} == OPEN


@pytest.mark.parametrize("role", ROLES)
async def test_every_route_by_every_role(edge: Edge, role: str) -> None:
    held, signer = ROLES[role], edge.fakes.signer
    token = None if held is None else signer.token(scope=held)
    if "server" in role:
        token = signer.client_token(scope=held)
    for number, ((method, template), scope) in enumerate(SCOPES.items()):
        path = template.format(
            action_id=ACTION, user_id=ADA, board="daily", name="none.js", action_type="WIN_GAME"
        )
        body: Any = {} if method in ("POST", "PATCH") else None
        answer = await edge.call(method, path, body, token=token, address=f"203.0.113.{number}")

        if scope == PUBLIC or (held is None and (method, template) in OPEN):
            assert answer.status not in (401, 403), template
        elif held is None:
            assert (answer.status, answer.code) == (401, "UNAUTHENTICATED"), template
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        elif _may(role, scope):
            assert answer.status not in (401, 403), template
        else:
            assert (answer.status, answer.code) == (403, "FORBIDDEN"), template


async def test_a_token_that_is_shown_must_be_right_where_none_is_needed(edge: Edge) -> None:
    for method, template in OPEN:
        path = template.format(user_id=ADA, board="daily")
        answer = await edge.call(method, path, {} if method == "POST" else None, token="forged")
        assert (answer.status, answer.code) == (401, "UNAUTHENTICATED"), template


async def test_what_is_not_listed_is_not_there(edge: Edge) -> None:
    token = edge.fakes.signer.token(scope=ADMIN)
    for path in ("/api/v1/nothing", "/metrics", "/api/v1/actions/../../health", "/static/../x"):
        answer = await edge.call("GET", path, token=token)
        assert (answer.status, answer.code) == (404, "NOT_FOUND"), path
    wrong = await edge.call("DELETE", "/api/v1/leaderboard")
    assert (wrong.status, wrong.code) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["Allow"] == "GET"
