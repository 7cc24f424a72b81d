"""Headers that must be single and are repeated; the challenges of refusals (RFC 6750)."""

import asyncio
import json
from typing import Any

import pytest

from chassis import clock
from chassis.errors import Forbidden, Unauthenticated
from gateway.tests.edge import UPDATE, Edge
from gateway.tests.services import ADA, ADMIN
from gateway.tests.test_game_servers import GRANT

API = "/api/v1"
SINGLE = [
    "Authorization",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "Expect",
    "Host",
    "Idempotency-Key",
    "Origin",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "traceparent",
    "Upgrade",
    "User-Agent",
    "X-Action-Token",
    "X-Device-Token",
    "X-Request-Id",
]


async def answered(edge: Edge, head: list[str], body: bytes = b"") -> tuple[int, Any]:
    """Status and problem of a request with these lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    lines = [*head, "X-Forwarded-For: 198.51.100.9", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    try:
        found = await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
    top, _, problem = found.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(problem)


def _head(name: str) -> list[str]:
    given = {"Host": "x", "User-Agent": "t", "Content-Length": "2"}
    given |= {"Content-Type": "application/json", name: given.get(name, "v")}
    return [f"{name}: {value}" for name, value in given.items()]


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("again", [str, str.lower])
async def test_a_header_that_must_be_single_is_refused_twice_by_its_name(
    edge: Edge, name: str, again: Any
) -> None:
    value = {"Content-Length": "2", "Content-Type": "application/json"}.get(name, "v")
    for address in ("POST /api/v1/auth/login", "POST /api/v1/scores/update", "GET /livez"):
        head = [f"{address} HTTP/1.1", *_head(name), f"{again(name)}: {value}"]
        status, problem = await answered(edge, head, b"{}")

        assert (status, problem["code"]) == (400, "HEADER_REPEATED")
        [error] = problem["errors"]
        assert (error["field"].lower(), error["code"]) == (name.lower(), "REPEATED")
    assert set(edge.fakes.calls) <= {"SanctionsSince", "Keys"}, "what the gateway follows"


async def test_all_repeated_headers_are_named_at_once(edge: Edge) -> None:
    twice = ["X-Action-Token: a", "Idempotency-Key: k", "Origin: o"]
    status, problem = await answered(edge, ["GET /health HTTP/1.1", "Host: x", *twice, *twice])

    assert (status, problem["code"]) == (400, "HEADER_REPEATED")
    assert [error["field"] for error in problem["errors"]] == [
        "X-Action-Token",
        "Idempotency-Key",
        "Origin",
    ]


async def test_the_handshake_of_the_live_channel_too(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    upgrade = [
        "GET /ws/leaderboard HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    for extra in (f"Authorization: Bearer {token}", "Origin: https://board.example"):
        status, problem = await answered(edge, [*upgrade, extra, extra])
        assert (status, problem["code"]) == (400, "HEADER_REPEATED")
        assert problem["errors"][0]["field"] == extra.partition(":")[0]


async def test_headers_that_are_lists_may_come_in_parts(edge: Edge) -> None:
    lists = ["If-None-Match", "Accept", "X-Forwarded-For", "Sec-WebSocket-Protocol", "tracestate"]
    head = ["GET /api/v1/leaderboard HTTP/1.1", "Host: x"]
    head += [f'{name}: "a"' for name in lists] * 2
    status, page = await answered(edge, head)

    assert status == 200
    assert page["board"] == "all_time"


async def test_repeated_headers_count_against_the_limit(edge: Edge) -> None:
    head = ["GET /api/v1/leaderboard HTTP/1.1", "Host: x", "Origin: a", "Origin: b"]
    statuses = [(await answered(edge, head))[0] for _ in range(101)]

    assert statuses == [400] * 100 + [429]


# ---- challenges ----


REALM = 'Bearer realm="scoreboard"'
READ = ("GET", f"{API}/me/scores")


async def challenge(edge: Edge, method: str, path: str, body: Any = None, **given: Any) -> str:
    answer = await edge.call(method, path, body, **given)
    assert answer.status in (401, 403)
    return str(answer.headers.get("WWW-Authenticate", ""))


async def test_no_token_gets_a_challenge_without_an_error(edge: Edge) -> None:
    assert await challenge(edge, *READ) == REALM
    for other in ("Basic YTpi", "Token x", "x"):
        assert await challenge(edge, *READ, headers={"Authorization": other}) == REALM
    edge.fakes.answers["Top"] = Unauthenticated(code="UNAUTHENTICATED")
    assert await challenge(edge, "GET", f"{API}/leaderboards/staff") == REALM


async def test_a_bad_token_is_called_invalid(edge: Edge) -> None:
    invalid = f'{REALM}, error="invalid_token", error_description="The access token is not valid."'
    for bad in ("forged", "a b", "rt1.0190a000-0000-7000-8000-00000000c0de." + "x" * 43):
        assert await challenge(edge, *READ, token=bad) == invalid
    assert await challenge(edge, *READ, headers={"Authorization": "Bearer"}) == invalid
    assert await challenge(edge, "GET", f"{API}/leaderboard", token="forged") == invalid


async def test_an_expired_token_is_called_invalid(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    with clock.ahead(700):
        found = await challenge(edge, *READ, token=token)

    assert found == (
        f'{REALM}, error="invalid_token", error_description="The access token has expired."'
    )


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", f"{API}/admin/boards", "boards:write"),
        ("POST", f"{API}/admin/scores/void", "scores:void"),
        ("POST", f"{API}/scores/award", "scores:award"),
    ],
)
async def test_a_scope_that_is_missing_is_named(
    edge: Edge, method: str, path: str, scope: str
) -> None:
    body: Any = {} if method == "POST" else None
    found = await challenge(edge, method, path, body, token=edge.fakes.signer.token())

    assert found == (
        f'{REALM}, error="insufficient_scope", '
        f'error_description="Your role does not allow this.", scope="{scope}"'
    )


async def test_a_game_server_that_may_not_award_a_type_lacks_scope(edge: Edge) -> None:
    edge.fakes.answers["Award"] = Forbidden("This client may not award this action type.")
    token = edge.fakes.signer.client_token()
    found = await challenge(edge, "POST", f"{API}/scores/award", GRANT, token=token)

    assert found == (
        f'{REALM}, error="insufficient_scope", '
        'error_description="This client may not award this action type."'
    )


@pytest.mark.parametrize("code", ["INVALID_CREDENTIALS", "REFRESH_EXPIRED", "REFRESH_REUSED"])
async def test_other_credentials_than_access_tokens_get_no_error_of_theirs(
    edge: Edge, code: str
) -> None:
    edge.fakes.answers |= dict.fromkeys(("Login", "Refresh"), Unauthenticated(code=code))
    login = {"username": "ada", "password": "x"}

    assert await challenge(edge, "POST", f"{API}/auth/login", login) == REALM
    assert await challenge(edge, "POST", f"{API}/auth/refresh", {"refreshToken": "r"}) == REALM


async def test_what_no_token_would_change_has_no_challenge(edge: Edge) -> None:
    edge.fakes.answers["Award"] = Forbidden(code="TOKEN_MISMATCH")
    token = edge.fakes.signer.token(ADA, scope=f"{ADMIN}")
    foreign = {"Origin": "https://evil.example"}

    assert await challenge(edge, "POST", f"{API}/scores/update", UPDATE, token=token) == ""
    assert await challenge(edge, "GET", "/ws/leaderboard", headers=foreign) == ""
