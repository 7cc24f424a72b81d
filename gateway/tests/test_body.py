"""Bodies that are wrong, each refused for what it is, and quickly."""

import asyncio
import contextlib
import json
import time
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import FieldError, Unprocessable
from chassis.ids import uuid7
from gateway.edge.body import Body, Reader, check_shape
from gateway.edge.errors import ERRORS_MAX, MalformedJson, ValidationFailed
from gateway.edge.misfits import misfits
from gateway.tests.edge import PROOF, UPDATE, Edge, api
from gateway.tests.services import ADA, ADMIN, AT

COMPLETION = {"actionToken": "v1.t", "proof": PROOF, "timestamp": AT}


def with_raw(field: str, raw: str) -> bytes:
    """The update with `raw` as a field's text."""
    return json.dumps({**UPDATE, field: "@"}).replace('"@"', raw).encode()


def with_evidence(raw: str) -> bytes:
    proof = {**PROOF, "evidence": "@"}
    return json.dumps({**COMPLETION, "proof": proof}).replace('"@"', raw).encode()


async def send(edge: Edge, data: bytes, path: str = "scores/update", **headers: str) -> Any:
    token = edge.fakes.signer.token()
    return await edge.call("POST", f"/api/v1/{path}", data=data, token=token, headers=headers)


MALFORMED = {
    "empty": b"",
    "cut short": json.dumps(UPDATE).encode()[:-1],
    "trailing text": json.dumps(UPDATE).encode() + b"x",
    "two values": json.dumps(UPDATE).encode() * 2,
    "single quotes": b"{'a': 1}",
    "a comment": b"{/* */}",
    "NaN": with_raw("scoreIncrement", "NaN"),
    "Infinity": with_raw("scoreIncrement", "Infinity"),
    "a leading zero": with_raw("scoreIncrement", "050"),
    "a plus sign": with_raw("scoreIncrement", "+50"),
    "bad UTF-8": with_raw("timestamp", '"@"').replace(b"@", b"\xff"),
    "bad UTF-8 in a key": json.dumps(UPDATE).encode().replace(b"userId", b"user\xffId"),
    "a lone surrogate": with_raw("timestamp", '"\\ud800"'),
    "a raw control character": with_raw("timestamp", '"a\nb"'),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(UPDATE).encode(),
    "UTF-16": json.dumps(UPDATE).encode("utf-16"),
    "a key twice": json.dumps(UPDATE).encode()[:-1] + b', "scoreIncrement": 50}',
    "a key twice, once escaped": json.dumps(UPDATE).encode()[:-1] + b', "score\\u0049ncrement":5}',
    "a key twice, deep": with_evidence('{"a": {"b": 1, "b": 2}}'),
    "broken behind a wrong type": with_raw("scoreIncrement", '"50"')[:-1] + b', "x": NaN}',
    "65 keys": json.dumps({f"k{i}": i for i in range(65)}).encode(),
    "65 keys deep": with_evidence(json.dumps({f"k{i}": i for i in range(65)})),
    "depth 9": with_evidence("[" * 7 + "]" * 7),
    "15 kB of [": b"[" * 15_000,
    "3,000 {": b'{"a":' * 3_000,
    "quotes without end": b'"' + b'\\"' * 20_000,
    "quotes and a last backslash": b'"' + b'\\"' * 20_000 + b"\\",
    "brackets and strings": with_evidence('["]]]]]]"' + ",[[[[[[[[1]]]]]]]]]"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_json_of_ours_is_malformed(edge: Edge, name: str) -> None:
    path = "actions/complete" if b"actionToken" in MALFORMED[name] else "scores/update"
    answer = await send(edge, MALFORMED[name], path)

    assert (answer.status, answer.code) == (400, "MALFORMED_JSON")
    assert not edge.fakes.calls["Award"]


INVALID = {
    "a fraction": (with_raw("scoreIncrement", "1.5"), "scoreIncrement", "WRONG_TYPE"),
    "an exponent": (with_raw("scoreIncrement", "1e3"), "scoreIncrement", "WRONG_TYPE"),
    "1e999": (with_raw("scoreIncrement", "1e999"), "scoreIncrement", "OUT_OF_RANGE"),
    "true": (with_raw("scoreIncrement", "true"), "scoreIncrement", "WRONG_TYPE"),
    "a string": (with_raw("scoreIncrement", '"50"'), "scoreIncrement", "WRONG_TYPE"),
    "null": (with_raw("scoreIncrement", "null"), "scoreIncrement", "WRONG_TYPE"),
    "a list": (b"[]", "", "WRONG_TYPE"),
    "60,000 digits": (with_raw("scoreIncrement", "9" * 60_000), "scoreIncrement", "OUT_OF_RANGE"),
    "an unknown field": (
        json.dumps({**UPDATE, "verdict": "ok"}).encode(),
        "verdict",
        "UNKNOWN",
    ),
    "a role": (json.dumps({**UPDATE, "role": "admin"}).encode(), "role", "UNKNOWN"),
    "a missing field": (
        json.dumps({k: v for k, v in UPDATE.items() if k != "userId"}).encode(),
        "userId",
        "REQUIRED",
    ),
    "NUL": (with_raw("actionType", '"A\\u0000"'), "actionType", "INVALID"),
    "too long": (with_raw("actionType", f'"{"A" * 65}"'), "actionType", "OUT_OF_RANGE"),
    "a wrong type deep": (
        json.dumps({**UPDATE, "proof": {**PROOF, "completionTime": "5"}}).encode(),
        "proof.completionTime",
        "WRONG_TYPE",
    ),
    "a missing field deep": (
        json.dumps({**UPDATE, "proof": {"completionTime": 5}}).encode(),
        "proof.checksum",
        "REQUIRED",
    ),
    "an unknown field deep": (
        json.dumps({**UPDATE, "proof": {**PROOF, "is_valid": True}}).encode(),
        "proof.is_valid",
        "UNKNOWN",
    ),
    "a time beyond exactness": (
        json.dumps({**UPDATE, "proof": {**PROOF, "completionTime": 2**53}}).encode(),
        "proof.completionTime",
        "OUT_OF_RANGE",
    ),
    "evidence with a fraction": (with_evidence('{"a": [1.5]}'), "proof.evidence", "WRONG_TYPE"),
    "evidence with 1.0": (with_evidence("1.0"), "proof.evidence", "WRONG_TYPE"),
    "evidence beyond exactness": (
        with_evidence(f'{{"a": {2**53}}}'),
        "proof.evidence",
        "OUT_OF_RANGE",
    ),
}


@pytest.mark.parametrize("name", INVALID)
async def test_what_does_not_fit_is_named(edge: Edge, name: str) -> None:
    data, field, code = INVALID[name]
    path = "actions/complete" if b"actionToken" in data else "scores/update"
    answer = await send(edge, data, path)

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    (error,) = answer.json()["errors"]
    assert error["field"].startswith(field)
    assert (error["field"] == field) or "evidence" in field
    assert error["code"] == code
    assert error["detail"]
    assert not edge.fakes.calls["Award"]


async def test_complete_without_a_token_names_what_it_misses(edge: Edge) -> None:
    answer = await edge.play("/actions/complete", {"proof": PROOF, "timestamp": AT})

    assert answer.json()["errors"][0] == {
        "field": "actionId",
        "code": "REQUIRED",
        "detail": "This field is required.",
    }


@pytest.mark.parametrize("number", [0, -5, 1000, 2**53, 10**30, -(10**30)])
async def test_every_integer_is_for_the_services_to_judge(edge: Edge, number: int) -> None:
    answer = await edge.play("/scores/update", {**UPDATE, "scoreIncrement": number})

    assert answer.status == 200
    sent = edge.fakes.received("Award").attempt.claims.score_increment
    assert sent == max(-(2**63) + 1, min(number, 2**63 - 1))


async def test_what_is_big_but_right_passes(edge: Edge) -> None:
    fits = {f"k{i}": i for i in range(64 - 6)}
    for evidence in (json.dumps(fits), "[" * 6 + "]" * 6, '["[[[[[[[[[", "a\\"{{{{{{{{{", "\\\\"]'):
        answer = await send(edge, with_evidence(evidence), "actions/complete")
        assert answer.status == 200, (evidence, answer.body)
    padded = json.dumps(UPDATE).encode()
    assert (await send(edge, padded + b" " * (65_536 - len(padded)))).status == 200


async def test_equal_evidence_has_one_form_and_other_values_another(edge: Edge) -> None:
    texts = ['{"b":1,"a":[true]}', '{ "a" : [ true ], "b" : 1 }', '{"\\u0061":[true],"b":1}']
    for text in [*texts, '{"a":[true],"b":2}']:
        assert (await send(edge, with_evidence(text), "actions/complete")).status == 200

    *same, other = [item.attempt.claims.proof.evidence for item in edge.fakes.calls["Award"]]
    assert set(same) == {b'{"a":[true],"b":1}'}
    assert other not in same


async def test_null_evidence_is_none(edge: Edge) -> None:
    await send(edge, with_evidence("null"), "actions/complete")

    assert edge.fakes.received("Award").attempt.claims.proof.evidence == b""


async def test_a_body_that_is_too_large_is_413(edge: Edge) -> None:
    assert (await send(edge, b" " * 65_537)).code == "BODY_TOO_LARGE"

    async def chunks() -> Any:
        for _ in range(70):
            yield b" " * 1000

    headers = {
        "Authorization": f"Bearer {edge.fakes.signer.token()}",
        "Content-Type": "application/json",
    }
    url = f"{edge.base}/api/v1/scores/update"
    async with edge.client.post(url, data=chunks(), headers=headers) as answer:
        assert answer.status == 413


async def test_a_client_that_waits_for_leave_to_send_its_body_is_given_it(edge: Edge) -> None:
    body = json.dumps(UPDATE).encode()
    head = (
        "POST /api/v1/scores/update HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {edge.fakes.signer.token()}\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    try:
        async with asyncio.timeout(5):
            writer.write(head.encode())
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    finally:
        writer.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_what_is_not_plain_json_is_415(edge: Edge, headers: dict[str, str]) -> None:
    answer = await send(edge, json.dumps(UPDATE).encode(), **headers)

    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_charset_beside_the_type_is_fine(edge: Edge) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert (await send(edge, json.dumps(UPDATE).encode(), **headers)).status == 200


@pytest.mark.parametrize("name", MALFORMED)
def test_no_body_takes_long_to_refuse(name: str) -> None:
    data = (MALFORMED[name] * 40_000)[:65_536]
    started_s = time.process_time()
    with contextlib.suppress(MalformedJson):
        check_shape(data)

    # 5 ms of CPU is the aim; the rest is for a slow machine.
    assert time.process_time() - started_s < 0.05


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@given(json_values)
def test_the_shape_is_seen_as_a_full_parser_sees_it(value: Any) -> None:
    def depth(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        return 0

    def keys(value: Any) -> int:
        if isinstance(value, dict):
            return len(value) + sum(map(keys, value.values()))
        return sum(map(keys, value)) if isinstance(value, list) else 0

    right = depth(value) <= 8 and keys(value) <= 64
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        try:
            check_shape(text.encode())
            assert right
        except MalformedJson:
            assert not right


async def test_a_body_that_does_not_come_is_given_up(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.edge.body.DEADLINE_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(
        b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


# ---- every fault at once ----


def found(answer: Any) -> dict[str, str]:
    """The code of each field that a refusal names."""
    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED"), answer.body
    errors = answer.json()["errors"]
    assert all(error["detail"] for error in errors)
    fields = {error["field"]: error["code"] for error in errors}
    assert len(fields) == len(errors)
    return fields


async def test_every_fault_of_a_body_is_named_by_its_path(edge: Edge) -> None:
    body = {
        "userId": 5,
        "actionType": "A" * 65,
        "scoreIncrement": 1.5,
        "timestamp": None,
        "clientSignature": "ab",
        "proof": {"completionTime": "5", "evidence": {"a": [1, 1.5], "b": 2**53}, "x": 1},
        "role": "admin",
    }

    assert found(await edge.play("/scores/update", body)) == {
        "userId": "WRONG_TYPE",
        "actionId": "REQUIRED",
        "actionType": "OUT_OF_RANGE",
        "scoreIncrement": "WRONG_TYPE",
        "timestamp": "WRONG_TYPE",
        "proof.completionTime": "WRONG_TYPE",
        "proof.checksum": "REQUIRED",
        "proof.evidence.a[1]": "WRONG_TYPE",
        "proof.evidence.b": "OUT_OF_RANGE",
        "proof.x": "UNKNOWN",
        "role": "UNKNOWN",
    }


async def test_each_item_of_a_list_is_named_by_its_place(edge: Edge) -> None:
    ids = [uuid7(), "x", uuid7(), 7, [1.5], {"a": 1}]
    path = "/api/v1/leaderboards/daily/ranks"
    answer = await edge.call("POST", path, {"userIds": ids})

    assert found(answer) == {
        "userIds[1]": "INVALID",
        "userIds[3]": "WRONG_TYPE",
        "userIds[4]": "WRONG_TYPE",
        "userIds[5]": "WRONG_TYPE",
    }
    assert found(await edge.call("POST", path, {"userIds": []})) == {"userIds": "OUT_OF_RANGE"}
    long = await edge.call("POST", path, {"userIds": [*ids[:2], *[uuid7()] * 199, "y"]})
    assert found(long) == {"userIds": "OUT_OF_RANGE", "userIds[1]": "INVALID"}


async def test_what_is_required_without_another_field_is_named_with_the_rest(edge: Edge) -> None:
    complete = await edge.play("/actions/complete", {"proof": {}, "timestamp": 5})
    nothing = await edge.play("/actions/complete", {"proof": PROOF, "timestamp": AT})
    increment = await edge.play("/scores/increment", {"timestamp": 5})
    token = edge.fakes.signer.token(scope=ADMIN)
    new = await edge.call("POST", "/api/v1/admin/action-types", {"title": "x"}, token=token)

    assert found(nothing) == {"actionId": "REQUIRED", "actionType": "REQUIRED"}
    assert found(complete) == {
        "proof.completionTime": "REQUIRED",
        "proof.checksum": "REQUIRED",
        "timestamp": "WRONG_TYPE",
        "actionId": "REQUIRED",
        "actionType": "REQUIRED",
    }
    assert found(increment) == {"timestamp": "WRONG_TYPE", "clientSignature": "REQUIRED"}
    required = ("actionType", "minDurationMs", "maxDurationMs", "tokenTtlS", "points")
    assert found(new) == dict.fromkeys(required, "REQUIRED")


async def test_both_times_of_a_reversal_are_named(edge: Edge) -> None:
    body = {"userId": ADA, "reason": "x", "dryRun": True, "from": "then", "to": "now"}
    token = edge.fakes.signer.token(scope=ADMIN)
    answer = await edge.call("POST", "/api/v1/admin/scores/void", body, token=token)

    assert found(answer) == {"from": "INVALID", "to": "INVALID"}


async def test_every_number_of_evidence_that_has_no_canonical_form_is_named(edge: Edge) -> None:
    evidence = {"a": [1, 2**53, {"b": -(2**53)}], "c": 2**53 - 1, "d": 10**30}
    answer = await send(edge, with_evidence(json.dumps(evidence)), "actions/complete")

    assert found(answer) == {
        "proof.evidence.a[1]": "OUT_OF_RANGE",
        "proof.evidence.a[2].b": "OUT_OF_RANGE",
        "proof.evidence.d": "OUT_OF_RANGE",
    }


HOSTILE = {
    "many unknown fields": json.dumps({f"{i}" + "x" * 900: i for i in range(60)}).encode(),
    "a long unknown field": json.dumps({"x" * 60_000: 1}).encode(),
    "a long list of wrong items": with_evidence("[" + "1.5," * 15_000 + "1.5]"),
    "a long string": with_raw("actionType", f'"{"A" * 60_000}"'),
    "control characters": json.dumps({"\x00\x01" * 5000: 1}).encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_gets_a_short_answer(edge: Edge, name: str) -> None:
    path = "actions/complete" if b"actionToken" in HOSTILE[name] else "scores/update"
    answer = await send(edge, HOSTILE[name], path)

    assert 1 <= len(found(answer)) <= ERRORS_MAX
    assert len(answer.body) < 16_384


async def test_a_service_s_many_errors_are_cut_off_too(edge: Edge) -> None:
    errors = [FieldError(f"f{i}", "BAD", "It is bad.") for i in range(100)]
    edge.fakes.answers["Award"] = Unprocessable(code="VALIDATION_FAILED", errors=errors)

    assert len(found(await edge.play("/scores/update", UPDATE))) == ERRORS_MAX


async def test_broken_text_behind_a_wrong_type_is_still_malformed(edge: Edge) -> None:
    for raw in ('"\\ud800"', '"\\udc00\\ud800"'):
        broken = with_raw("timestamp", raw).replace(
            b'"scoreIncrement": 50', b'"scoreIncrement": 1.5'
        )
        assert (await send(edge, broken)).code == "MALFORMED_JSON"
    key = json.dumps(UPDATE).encode()[:-1] + b', "\\ud800": 1}'
    assert (await send(edge, key)).code == "MALFORMED_JSON"


def _bodies() -> list[type[Body]]:
    kinds = [get_type_hints(route.handler).get("body") for route in api()]
    return list(dict.fromkeys(kind for kind in kinds if kind))


PLAUSIBLE: list[Any] = [
    ADA,
    "WIN_GAME",
    AT,
    5,
    1000,
    True,
    None,
    [ADA],
    ["A"],
    PROOF,
    {"every": "day"},
]


@pytest.mark.parametrize("kind", _bodies())
@given(drawn=st.data())
def test_the_second_reading_of_a_body_agrees_with_the_first(
    kind: type[Body], drawn: st.DataObject
) -> None:
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    values = st.sampled_from(PLAUSIBLE) | json_values
    fields = st.fixed_dictionaries({}, optional=dict.fromkeys([*names, "x"], values))
    value = drawn.draw(fields | json_values)
    refused: tuple[FieldError, ...] = ()
    try:
        Reader(kind).decode(json.dumps(value).encode())
    except MalformedJson:
        return
    except ValidationFailed as failed:
        refused = failed.errors
        assert refused

    assert list(refused) == list(misfits(kind, value))[:ERRORS_MAX]
