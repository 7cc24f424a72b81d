"""Requests that are repeated under one Idempotency-Key: at once, later, changed, after losses."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from aiohttp import web

from chassis import clock
from chassis.errors import Conflict, Failed, TooMany, Unavailable, Unprocessable
from chassis.keyring import Keyring
from chassis.redis import Redis
from chassis.testing import Certificates
from gateway.edge import idempotency
from gateway.edge.idempotency import Idempotency, Repeatable
from gateway.tests.edge import KEYS, PROOF, UPDATE, Answered, Edge, edge_of, edge_settings
from gateway.tests.services import ACTION, ADA, ADMIN, AT, AWARD, BOB, COMPLETED, Fakes, encoded
from protos.scores_pb2 import Board

BOARD = {"board": "raid", "title": "Raid"}
KEY = {"Idempotency-Key": "k1"}
DAY_S = 24 * 3600


async def add(edge: Edge, body: Any = BOARD, key: str = "k1", **more: Any) -> Answered:
    """Adds a board, whose answer is kept."""
    token = edge.fakes.signer.token(more.pop("user_id", ADA), scope=ADMIN)
    path = more.pop("path", "/api/v1/admin/boards")
    headers = {"Idempotency-Key": key}
    return await edge.call("POST", path, body, token=token, headers=headers, **more)


async def award(edge: Edge, body: Any = UPDATE, user_id: str = ADA, **headers: str) -> Answered:
    return await edge.play("/scores/update", body, user_id, headers={**KEY, **headers})


async def test_a_kept_answer_is_given_again_byte_for_byte(edge: Edge) -> None:
    first = await add(edge)
    edge.fakes.answers["CreateBoard"] = Conflict(code="BOARD_EXISTS")
    again = await add(edge)

    assert (again.status, again.body) == (201, first.body)
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(edge.fakes.calls["CreateBoard"]) == 1


async def test_a_final_refusal_is_kept_too(edge: Edge) -> None:
    edge.fakes.answers["CreateBoard"] = Unprocessable("No.", code="VALIDATION_FAILED")
    first = await add(edge)
    edge.fakes.answers.clear()
    again = await add(edge)

    assert (again.status, again.body) == (422, first.body)
    assert again.headers["Content-Type"] == "application/problem+json"
    assert again.headers["X-Request-Id"] != again.json()["requestId"]


@pytest.mark.parametrize(
    "failure", [TooMany(code="ANY"), Unavailable(code="DB_UNAVAILABLE"), Failed(), lambda _: 1 / 0]
)
async def test_what_may_be_otherwise_next_time_is_not_kept(edge: Edge, failure: Any) -> None:
    edge.fakes.answers["CreateBoard"] = failure
    refused = await add(edge)
    assert refused.status >= 429
    edge.fakes.answers.clear()
    again = await add(edge)

    assert again.status == 201
    assert "Idempotency-Replayed" not in again.headers


@pytest.mark.parametrize("path", ["boards", "award"])
async def test_the_key_with_another_body_is_refused_before_anything_else(
    edge: Edge, path: str
) -> None:
    if path == "boards":
        await add(edge)
        refused = await add(edge, {**BOARD, "title": "Other"})
        calls = edge.fakes.calls["CreateBoard"]
    else:
        await award(edge)
        # With another action token as well.
        other = {**UPDATE, "timestamp": "2027-01-15T08:00:01Z"}
        refused = await award(edge, other, **{"X-Action-Token": "v1.other"})
        calls = edge.fakes.calls["Award"]

    assert (refused.status, refused.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(calls) == 1


async def test_a_game_server_may_write_the_same_body_in_another_way(edge: Edge) -> None:
    body = {"actionId": ACTION, "userId": ADA, "actionType": "WIN_GAME"}
    statuses = []
    for text in (
        json.dumps(body),
        json.dumps(body, indent=4),
        json.dumps({**body, "scoreIncrement": 9}),
    ):
        answer = await edge.call(
            "POST",
            "/api/v1/scores/award",
            data=text.encode(),
            token=edge.fakes.signer.client_token(),
            headers=KEY,
        )
        statuses.append(answer.status)

    assert statuses == [200, 200, 422]
    assert all(item.key_hash for item in edge.fakes.calls["Award"])


async def test_an_award_s_answer_is_the_ledger_s_to_give_again(edge: Edge) -> None:
    for _ in range(2):
        answer = await award(edge)
        assert answer.status == 200
        assert "Idempotency-Replayed" not in answer.headers

    first, second = edge.fakes.calls["Award"]
    assert first.key_hash == second.key_hash
    assert first.body_hash == second.body_hash


async def test_the_same_key_of_another_caller_or_route_is_another_key(edge: Edge) -> None:
    await award(edge)
    other = {**UPDATE, "userId": BOB}
    assert (await award(edge, other, BOB)).status == 200
    body = {"timestamp": AT, "proof": PROOF}
    assert (await edge.play("/scores/increment", body, headers=KEY)).status == 200

    assert len({item.key_hash for item in edge.fakes.calls["Award"]}) == 3


async def test_a_quoted_key_is_the_bare_one(edge: Edge) -> None:
    await add(edge, key="k1")
    assert (await add(edge, key='"k1"')).headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("key", ["", '""', "k" * 256, "a b", 'a"b', "ä"])
async def test_a_key_that_is_none_is_named(edge: Edge, key: str) -> None:
    answer = await add(edge, key=key)

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"


class Held:
    """Holds every answer of one method until it is let go."""

    def __init__(self, fakes: Fakes, method: str, answer: Any) -> None:
        self.requested, self._go, self._answer = asyncio.Event(), asyncio.Event(), answer
        fakes.answers[method] = lambda item: self._wait()

    async def _wait(self) -> Any:
        self.requested.set()
        await self._go.wait()
        return self._answer

    def let_go(self) -> None:
        self._go.set()


async def test_a_repeat_of_what_still_runs_is_refused(edge: Edge) -> None:
    held = Held(edge.fakes, "Award", AWARD)
    running = asyncio.create_task(award(edge))
    await held.requested.wait()
    repeat = await award(edge)
    changed = await award(edge, {**UPDATE, "scoreIncrement": 51})
    held.let_go()

    assert (repeat.status, repeat.code) == (409, "REQUEST_IN_PROGRESS")
    assert repeat.headers["Retry-After"] == "1"
    assert (changed.status, changed.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (await running).status == 200
    assert (await award(edge)).status == 200


async def test_of_many_at_once_one_runs(edge: Edge) -> None:
    held = Held(edge.fakes, "CreateBoard", Board(board="raid"))
    running = [asyncio.create_task(add(edge)) for _ in range(20)]
    for finished, answer in enumerate(asyncio.as_completed(running), start=1):
        await answer
        if finished == 19:
            held.let_go()

    assert sorted(task.result().status for task in running) == [201] + [409] * 19
    assert len(edge.fakes.calls["CreateBoard"]) == 1


async def test_the_mark_of_a_gateway_that_died_ends_with_the_route_s_time(edge: Edge) -> None:
    held = Held(edge.fakes, "CreateBoard", Board(board="raid"))
    running = asyncio.create_task(add(edge))
    await held.requested.wait()
    edge.fakes.answers.clear()
    try:
        with clock.ahead(4.9):
            assert (await add(edge)).code == "REQUEST_IN_PROGRESS"
        with clock.ahead(5.1):
            changed = await add(edge, {**BOARD, "title": "Other"})
            assert changed.code == "IDEMPOTENCY_KEY_REUSED"
            assert (await add(edge)).status == 201
    finally:
        held.let_go()
        await running


async def test_who_was_taken_for_dead_does_not_end_what_was_begun_since(edge: Edge) -> None:
    first = Held(edge.fakes, "CreateBoard", Board(board="raid"))
    slow = asyncio.create_task(add(edge))
    await first.requested.wait()
    with clock.ahead(5.1):
        second = Held(edge.fakes, "CreateBoard", Board(board="raid"))
        running = asyncio.create_task(add(edge))
        await second.requested.wait()
        first.let_go()
        assert (await slow).status == 201
        assert (await add(edge)).code == "REQUEST_IN_PROGRESS"
        second.let_go()
        assert (await running).status == 201


async def test_a_key_counts_for_a_day_from_its_first_use(edge: Edge) -> None:
    await add(edge)
    with clock.ahead(DAY_S - 60):
        assert (await add(edge)).headers["Idempotency-Replayed"] == "true"
        assert (await add(edge, {**BOARD, "title": "x"})).code == "IDEMPOTENCY_KEY_REUSED"
    with clock.ahead(DAY_S + 1):
        answer = await add(edge, {**BOARD, "title": "x"})
        assert answer.status == 201
        assert "Idempotency-Replayed" not in answer.headers


async def test_a_repeat_does_not_make_a_key_count_longer(edge: Edge) -> None:
    await award(edge)
    with clock.ahead(DAY_S - 60):
        await award(edge)
    with clock.ahead(DAY_S + 1):
        assert (await award(edge, {**UPDATE, "scoreIncrement": 51})).status == 200


async def test_marks_end_by_themselves_and_hold_nothing_readable(edge: Edge, redis: Redis) -> None:
    await add(edge, {**BOARD, "title": "a canary"}, key="canary-key")
    await award(edge)

    keys = [key async for key in redis.scan_iter(match="idem:*")]
    assert len(keys) == 2
    for key in keys:
        assert key.startswith(b"idem:{")
        assert key.endswith(b"}")
        assert 0 < await redis.pttl(key) <= DAY_S * 1000
        assert b"canary" not in key + (await redis.get(key) or b"")


async def test_a_call_without_a_key_leaves_nothing_behind(edge: Edge, redis: Redis) -> None:
    await edge.play("/scores/update", UPDATE)

    assert [key async for key in redis.scan_iter(match="idem:*")] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/actions/request", {"actionType": "WIN_GAME"}),
        ("POST", "/actions/token", {"actionType": "WIN_GAME"}),
        (
            "POST",
            "/actions/complete",
            {"actionId": ACTION, "actionType": "WIN_GAME", "proof": PROOF, "timestamp": AT},
        ),
        ("POST", "/auth/login", {"username": "ada", "password": "p"}),
        ("POST", "/auth/refresh", {"refreshToken": "r"}),
        ("POST", "/leaderboards/daily/ranks", {"userIds": [ADA]}),
        ("GET", "/me/scores", None),
    ],
)
async def test_where_a_key_means_nothing_it_does_nothing(
    edge: Edge, redis: Redis, method: str, path: str, body: Any
) -> None:
    token = edge.fakes.signer.token()
    for key in ("k1", "k1", "no key at all " * 99):
        answer = await edge.call(
            method, f"/api/v1{path}", body, token=token, headers={"Idempotency-Key": key}
        )
        assert answer.status in (200, 201)
        assert "Idempotency-Replayed" not in answer.headers

    assert [found async for found in redis.scan_iter(match="idem:*")] == []


async def test_an_answer_that_is_too_large_is_not_kept(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "ANSWER_BYTES_MAX", 100)
    for _ in range(2):
        answer = await add(edge)
        assert (answer.status, "Idempotency-Replayed" in answer.headers) == (201, False)
    # Its body counts all the same.
    assert (await add(edge, {**BOARD, "title": "x"})).code == "IDEMPOTENCY_KEY_REUSED"


async def test_an_answer_opens_under_its_own_key_and_only_unchanged(
    edge: Edge, redis: Redis
) -> None:
    await add(edge, key="k1")
    [first] = [key async for key in redis.scan_iter(match="idem:*")]
    sealed = await redis.get(first)
    assert isinstance(sealed, bytes)
    await redis.set(first, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert "Idempotency-Replayed" not in (await add(edge, key="k1")).headers

    await add(edge, key="k2")
    keys = {key async for key in redis.scan_iter(match="idem:*")}
    [second] = keys - {first}
    await redis.set(second, sealed)
    assert "Idempotency-Replayed" not in (await add(edge, key="k2")).headers


async def test_a_rotated_ring_opens_what_the_older_key_sealed(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    both = Keyring(f"1:{encoded(bytes(32))}\n2:{encoded(b'2' * 32)}")
    newer = Keyring(f"2:{encoded(b'2' * 32)}")
    replayed = []
    for ring, key in ((KEYS, "k1"), (both, "k1"), (both, "k2"), (newer, "k1"), (newer, "k2")):
        settings = edge_settings(fakes, certificates, redis_url, idempotency_keys=ring)
        async with edge_of(settings, fakes) as edge:
            replayed.append("Idempotency-Replayed" in (await add(edge, key=key)).headers)

    assert replayed == [False, True, False, False, True]


async def test_while_redis_is_unavailable_calls_go_on(
    fakes: Fakes, certificates: Certificates, own_redis: Callable[[], AbstractContextManager[str]]
) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(own_redis())
        async with edge_of(edge_settings(fakes, certificates, url), fakes) as edge:
            await award(edge)
            stack.close()
            answers = [await award(edge), await add(edge)]

    assert [answer.status for answer in answers] == [200, 201]
    assert fakes.calls["Award"][-1].key_hash


async def test_a_redis_that_is_silent_holds_up_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "CALL_S", 0.5)
    monkeypatch.setattr(idempotency, "PAUSE_S", 60.0)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    redis = Redis(f"redis://127.0.0.1:{port}/0")
    marks = Idempotency(redis, KEYS)

    async def run() -> web.Response:
        return web.Response(status=201)

    async def repeat() -> int:
        call = Repeatable(b"k" * 32, b"b" * 32)
        answer = await marks.answer(call, run, kept=True, budget_s=5, request_id="r")
        return answer.status

    try:
        assert await repeat() == 201
        async with asyncio.timeout(0.4):  # less than another attempt would take
            assert await repeat() == 201
    finally:
        await redis.aclose()
        silent.close()
        await silent.wait_closed()


# ---- what is given again without a mark ----

PROVED = {"proof": PROOF, "timestamp": AT}
BY_PLAYER: dict[str, tuple[str, Any, dict[str, str]]] = {
    "update": ("/scores/update", UPDATE, {"X-Action-Token": "v1.token"}),
    "increment": ("/scores/increment", PROVED, {"X-Action-Token": "v1.token"}),
    "one call": ("/actions/complete", {**PROVED, "actionToken": "v1.token"}, {}),
    "fresh token": (
        "/actions/complete",
        {**PROVED, "actionId": ACTION, "actionType": "WIN_GAME"},
        {},
    ),
}


def repeat_of(message: Any) -> Any:
    """The message as a service returns it again."""
    again = type(message)(repeat=True)
    again.MergeFrom(message)
    return again


@pytest.mark.parametrize("name", BY_PLAYER)
async def test_a_repeat_says_so_and_is_the_first_answer_else(edge: Edge, name: str) -> None:
    path, body, headers = BY_PLAYER[name]
    first = await edge.play(path, body, headers=headers)
    edge.fakes.answers |= {"Award": repeat_of(AWARD), "Complete": repeat_of(COMPLETED)}
    again = await edge.play(path, body, headers=headers)

    assert (again.status, again.body) == (200, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers


async def test_a_repeated_grant_says_so_with_a_key_and_without(edge: Edge) -> None:
    body = {"actionId": ACTION, "userId": ADA, "actionType": "WIN_GAME"}
    token = edge.fakes.signer.client_token()
    path = "/api/v1/scores/award"
    first = await edge.call("POST", path, body, token=token)
    edge.fakes.answers["Award"] = repeat_of(AWARD)
    again = [await edge.call("POST", path, body, token=token, headers=h) for h in ({}, KEY)]

    assert [answer.body for answer in again] == [first.body] * 2
    assert [answer.headers["Idempotency-Replayed"] for answer in again] == ["true"] * 2
    assert "Idempotency-Replayed" not in first.headers


async def test_a_receipt_is_no_repeat(edge: Edge) -> None:
    token = edge.fakes.signer.token()
    answer = await edge.call("GET", f"/api/v1/me/scores/{ACTION}", token=token)

    assert (answer.status, "Idempotency-Replayed" in answer.headers) == (200, False)
