"""Every way to fail, as the caller sees it: one shape, a code, and nothing of our inside."""

import asyncio
import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NoOpTracer
from prometheus_client import REGISTRY
from prometheus_client.openmetrics import exposition as openmetrics
from yarl import URL

from chassis import errors
from chassis.errors import Failed, FieldError
from chassis.ids import uuid7
from chassis.telemetry import traces
from gateway.edge.gateway import http_requests
from gateway.tests.edge import UPDATE, Edge
from gateway.tests.services import AWARD
from protos import scores_pb2
from protos.failure_pb2 import Failure

OUTSIDE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"  # an outsider's trace

STATUSES = {
    errors.Invalid: 400,
    errors.Unprocessable: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.Missing: 404,
    errors.Conflict: 409,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    errors.Timeout: 504,
}


@pytest.mark.parametrize("kind", STATUSES)
async def test_a_service_s_own_code_passes_with_the_status_of_its_kind(
    edge: Edge, kind: type[Failed]
) -> None:
    edge.fakes.answers["Award"] = kind(
        "A sentence.",
        code="A_CODE",
        errors=[FieldError("a.b", "BAD", "It is bad.")],
        retry_after_s=7,
        reference="decision-1",
        facts={"bound": "minDurationMs", "limitMs": 2**53, "status": "no"},
    )
    answer = await edge.play("/scores/update", UPDATE)

    assert (answer.status, answer.code) == (STATUSES[kind], "A_CODE")
    assert answer.json() == {
        "type": "urn:scoreboard:problem:A_CODE",
        "title": "A code",
        "status": STATUSES[kind],
        "detail": "A sentence.",
        "code": "A_CODE",
        "requestId": answer.headers["X-Request-Id"],
        "errors": [{"field": "a.b", "code": "BAD", "detail": "It is bad."}],
        "retryAfter": 7,
        "decisionId": "decision-1",
        "bound": "minDurationMs",
        "limitMs": 2**53,
    }
    assert answer.headers["Retry-After"] == "7"
    assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)


def test_every_kind_of_failure_has_a_status() -> None:
    assert {kind.kind for kind in STATUSES} | {Failure.INTERNAL} == set(Failure.Kind.values())


def crash(item: Any) -> Any:
    raise RuntimeError("SELECT secret FROM users")


@pytest.mark.parametrize("method", ["Award", "Receipt"])
@pytest.mark.parametrize("bug", [crash, errors.Internal("SELECT secret FROM users", code="BUG")])
async def test_a_bug_of_a_service_shows_nothing_of_it(edge: Edge, method: str, bug: Any) -> None:
    edge.fakes.answers[method] = bug
    answer = (
        await edge.play("/scores/update", UPDATE)
        if method == "Award"
        else await edge.call("GET", f"/api/v1/me/scores/{uuid7()}", token=edge.fakes.signer.token())
    )

    assert (answer.status, answer.code) == (500, "INTERNAL")
    assert b"SELECT" not in answer.body
    assert b"Traceback" not in answer.body


async def test_a_bug_of_our_own_shows_nothing_of_it(edge: Edge) -> None:
    # A year that no calendar has breaks the rendering of its time.
    edge.fakes.answers["Top"] = scores_pb2.Top(board="all_time", updated_at_ms=2**62)
    answer = await edge.call("GET", "/api/v1/leaderboard")

    assert (answer.status, answer.code) == (500, "INTERNAL")
    assert b"Overflow" not in answer.body


async def test_a_service_that_takes_too_long_is_504(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow() -> Any:
        await asyncio.sleep(5)
        return AWARD

    edge.fakes.answers["Receipt"] = lambda request: slow()
    token = edge.fakes.signer.token()
    monkeypatch.setattr("chassis.rpc.server.HOP_S", 4.8)
    monkeypatch.setattr("chassis.rpc.client.HOP_S", 4.8)
    answer = await edge.call("GET", f"/api/v1/me/scores/{uuid7()}", token=token)

    assert (answer.status, answer.code) == (504, "TIMEOUT")
    assert "DEADLINE" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-DEF_1.2", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("a\tb", False),
        ("ä", False),
        ("", False),
    ],
)
async def test_a_request_id_is_kept_where_it_is_one(edge: Edge, given: str, kept: bool) -> None:
    for path in ("/api/v1/leaderboard", "/nothing", "/livez", "/static/none"):
        answer = await edge.call("GET", path, headers={"X-Request-Id": given})
        assert (answer.headers["X-Request-Id"] == given) is kept
        assert answer.headers["X-Request-Id"]


async def test_a_socket_s_handshake_carries_what_every_answer_does(edge: Edge) -> None:
    async with edge.client.ws_connect(
        f"{edge.base}/ws/leaderboard", headers={"X-Request-Id": "rid-1"}
    ) as socket:
        handshake = socket._response.headers

    assert handshake["X-Request-Id"] == "rid-1"
    assert handshake["Server"] == "scoreboard"
    assert handshake["Cache-Control"] == "no-store"
    assert "RateLimit" in handshake


async def test_an_address_with_a_coded_slash_is_another_address(edge: Edge) -> None:
    assert (await edge.call("GET", "/api/v1/%6ceaderboard")).status == 200
    url = URL(f"{edge.base}/api/v1%2Fleaderboard", encoded=True)
    async with edge.client.get(url) as answer:
        assert answer.status == 404


async def talk(edge: Edge, *parts: bytes) -> bytes:
    """What comes back on one connection until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 300 + b"\r\n", 400),
    ],
)
async def test_what_is_no_http_is_a_problem_too(edge: Edge, head: bytes, status: int) -> None:
    answer = await talk(edge, head)

    top, _, body = answer.partition(b"\r\n\r\n")
    assert f" {status} ".encode() in top[:14]
    assert b"application/problem+json" in top
    assert b"X-Request-Id" in top
    assert json.loads(body)["code"] in (
        "BAD_REQUEST",
        "HEADERS_TOO_LARGE",
        "HEADER_REPEATED",
    )


async def test_a_head_that_does_not_come_ends_the_connection(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.listener.HEAD_S", 0.2)
    silent = talk(edge)
    slow = talk(edge, b"GET / HTTP/1.1\r\n", b"Host: x\r\n")
    first, second = await asyncio.wait_for(asyncio.gather(silent, slow), 5)
    assert (first, second) == (b"", b"")
    # A later request on a connection that was kept is held to the same.
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"ok\n")
    writer.write(b"GET /li")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_one_log_line_per_request_and_no_secret_in_it(edge: Edge, logged: list[Any]) -> None:
    token = edge.fakes.signer.token()
    await edge.call(
        "POST",
        "/api/v1/scores/update",
        {**UPDATE, "clientSignature": "canary-body"},
        token=token,
        headers={"X-Action-Token": "canary-header", "X-Request-Id": "rid-1"},
    )
    await edge.call("GET", "/nothing\r\ncanary-path?token=canary-query".replace("\r\n", "%0d%0a"))
    await edge.call("GET", "/api/v1/leaderboard?canary-name=canary-query")

    first, second, third = (line for line in logged if line["event"] == "request_answered")
    assert first["route"] == "/api/v1/scores/update"
    assert (first["method"], first["status"], first["code"]) == ("POST", 200, "OK")
    assert first["request_id"] == "rid-1"
    assert first["user_id"] == UPDATE["userId"]
    assert first["took_ms"] >= 0
    assert (second["route"], second["status"]) == ("unknown", 404)
    assert (third["route"], third["status"]) == ("/api/v1/leaderboard", 422)
    assert "canary" not in repr(logged)
    assert token not in repr(logged)


async def test_refusals_that_concern_security_are_lines_of_that_stream(
    edge: Edge, logged: list[Any]
) -> None:
    signer, address = edge.fakes.signer, "203.0.113.9"
    action = f"/api/v1/actions/{uuid7()}"
    await edge.call("GET", action, token=signer.token()[:-9] + "AAAA", address=address)
    await edge.call("POST", "/api/v1/admin/boards", {}, token=signer.token(), address=address)
    await edge.call("GET", action, address=address)
    await edge.call("GET", action, token=signer.token(), address=address)

    lines = [line for line in logged if line["event"] == "request_answered"]
    assert [(line["code"], line["stream"], line.get("address")) for line in lines] == [
        ("UNAUTHENTICATED", "security", address),
        ("FORBIDDEN", "security", address),
        ("UNAUTHENTICATED", "app", None),
        ("OK", "app", None),
    ]


async def test_a_sampled_request_is_a_span_by_its_route_and_its_line_has_the_trace(
    edge: Edge, logged: list[Any], spans: list[ReadableSpan]
) -> None:
    action = uuid7()
    await edge.call("GET", f"/api/v1/actions/{action}", headers={"traceparent": OUTSIDE})
    await edge.call("GET", f"/api/v1/{action}")
    traces.configure(NoOpTracer(), ratio=0)
    await edge.call("GET", f"/api/v1/actions/{action}", headers={"traceparent": OUTSIDE})

    first, second, third = (line for line in logged if line["event"] == "request_answered")
    by_name = {span.name: span for span in spans}
    refused, unknown = by_name["GET /api/v1/actions/{action_id}"], by_name["unknown unknown"]
    assert dict(refused.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/api/v1/actions/{action_id}",
        "http.response.status_code": 401,
        "error.type": "UNAUTHENTICATED",
    }
    assert dict(unknown.attributes or {})["http.request.method"] == "_OTHER"
    assert first["trace_id"] == f"{refused.context.trace_id:032x}" != "ab" * 16
    assert second["trace_id"] == f"{unknown.context.trace_id:032x}"
    assert "trace_id" not in third
    # Some bucket shows the last traced request of its kind.
    page = openmetrics.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
    assert f'# {{trace_id="{first["trace_id"]}"}}' in page.decode()
    assert action not in str([span.to_json() for span in spans])


async def test_requests_are_counted_by_route_and_not_by_what_callers_invent(edge: Edge) -> None:
    def count(*labels: str) -> float:
        return float(http_requests.labels(*labels)._value.get())

    before = count("/api/v1/actions/{action_id}", "GET", "401"), count("unknown", "unknown", "404")
    await edge.call("GET", f"/api/v1/actions/{uuid7()}")
    await edge.call("GET", f"/api/v1/{uuid7()}")
    after = count("/api/v1/actions/{action_id}", "GET", "401"), count("unknown", "unknown", "404")

    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1]


async def test_bytes_in_headers_that_are_no_text_break_nothing(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    body = json.dumps(UPDATE).encode()
    head = (
        b"POST /api/v1/scores/update HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nX-Action-Token: \xff\xfe\r\nUser-Agent: \xff\r\n"
        b"X-Request-Id: \xff\r\nX-Forwarded-For: \xff\r\n"
        + f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    answer = await talk(edge, head + body)

    assert b" 200 " in answer[:14]
    assert edge.fakes.received("Award").attempt.action_token == "??"
