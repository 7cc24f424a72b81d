"""Game servers: their tokens by client credentials, and what they award by their own word."""

import asyncio
import base64
import json
from typing import Any

import pytest

from chassis import clock
from chassis.errors import Invalid, Unauthenticated
from chassis.redis import Redis
from chassis.testing import Certificates
from gateway.api import scores
from gateway.tests.edge import Answered, Edge, edge_of, edge_settings
from gateway.tests.services import ACTION, ADA, ARENA, BOB, PLAYER, Fakes

API = "/api/v1"
FORM = "application/x-www-form-urlencoded"
GRANT = {"actionId": ACTION, "userId": ADA, "actionType": "WIN_GAME"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


async def request_token(edge: Edge, form: str | bytes, **headers: str) -> Answered:
    data = form if isinstance(form, bytes) else form.encode()
    sent = {"Content-Type": FORM, **headers}
    return await edge.call("POST", f"{API}/auth/token", data=data, headers=sent)


async def grant(edge: Edge, body: Any = GRANT, **more: Any) -> Answered:
    token = edge.fakes.signer.client_token()
    return await edge.call("POST", f"{API}/scores/award", body, token=token, **more)


# ---- tokens ----


@pytest.mark.parametrize("by_header", [True, False])
async def test_credentials_get_a_token_in_the_words_of_rfc_6749(
    edge: Edge, by_header: bool
) -> None:
    form = "grant_type=client_credentials&scope=scores%3Aaward&foo=bar"
    if by_header:
        answer = await request_token(edge, form, **basic(ARENA, "s"))
    else:
        answer = await request_token(edge, f"{form}&client_id={ARENA}&client_secret=s")

    assert answer.status == 200
    assert answer.json() == {
        "access_token": "at",
        "token_type": "Bearer",
        "expires_in": 300,
        "scope": "scores:award",
    }
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    sent = edge.fakes.received("ClientToken")
    assert (sent.client_id, sent.client_secret, sent.scope) == (ARENA, "s", "scores:award")
    assert sent.client.address == "198.51.100.7"


async def test_credentials_in_the_header_are_decoded_as_a_form_s(edge: Edge) -> None:
    await request_token(edge, "grant_type=client_credentials", **basic("a%3Ab+c", "%C3%A4%25"))

    sent = edge.fakes.received("ClientToken")
    assert (sent.client_id, sent.client_secret) == ("a:b c", "ä%")


GOOD = "grant_type=client_credentials&client_id=a&client_secret=b"
REFUSED: dict[str, tuple[str, dict[str, str], int, str]] = {
    "no grant type": ("client_id=a&client_secret=b", {}, 400, "INVALID_REQUEST"),
    "an empty one": (GOOD.replace("client_credentials", ""), {}, 400, "INVALID_REQUEST"),
    "another": (GOOD.replace("client_credentials", "password"), {}, 400, "UNSUPPORTED_GRANT_TYPE"),
    "a parameter twice": (GOOD + "&scope=a&scope=b", {}, 400, "INVALID_REQUEST"),
    "credentials twice": (GOOD, basic("a", "b"), 400, "INVALID_REQUEST"),
    "too many parameters": (GOOD + "&x=" * 40, {}, 400, "INVALID_REQUEST"),
    "bad UTF-8": (GOOD + "&x=%ff", {}, 400, "INVALID_REQUEST"),
    "no credentials": ("grant_type=client_credentials", {}, 401, "INVALID_CLIENT"),
    "no secret": ("grant_type=client_credentials&client_id=a", {}, 401, "INVALID_CLIENT"),
    "no Basic": (
        "grant_type=client_credentials",
        {"Authorization": "Bearer x"},
        401,
        "INVALID_CLIENT",
    ),
    "no base64": (
        "grant_type=client_credentials",
        {"Authorization": "Basic €"},
        401,
        "INVALID_CLIENT",
    ),
    "no colon": (
        "grant_type=client_credentials",
        {"Authorization": "Basic " + base64.b64encode(b"ab").decode()},
        401,
        "INVALID_CLIENT",
    ),
}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("client_id=a&client_secret=b", [("grant_type", "REQUIRED")]),
        (
            GOOD + "&scope=a&scope=b&client_id=a",
            [("client_id", "REPEATED"), ("scope", "REPEATED")],
        ),
    ],
)
async def test_the_parameters_of_a_form_that_are_wrong_are_named(
    edge: Edge, form: str, expected: list[tuple[str, str]]
) -> None:
    answer = await request_token(edge, form)

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == expected


@pytest.mark.parametrize("name", REFUSED)
async def test_a_wrong_request_for_a_token_is_refused_in_the_words_of_rfc_6749(
    edge: Edge, name: str
) -> None:
    form, headers, status, code = REFUSED[name]
    answer = await request_token(edge, form, **headers)

    assert (answer.status, answer.code) == (status, code)
    assert answer.json()["error"] == code.lower()
    assert answer.headers["Cache-Control"] == "no-store"
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert not edge.fakes.calls["ClientToken"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Unauthenticated(code="INVALID_CLIENT"), 401),
        (Invalid(code="UNAUTHORIZED_CLIENT"), 400),
        (Invalid(code="INVALID_SCOPE"), 400),
    ],
)
async def test_what_auth_refuses_is_reported_in_the_same_words(
    edge: Edge, failure: Any, status: int
) -> None:
    edge.fakes.answers["ClientToken"] = failure
    answer = await request_token(edge, GOOD)

    assert (answer.status, answer.code) == (status, failure.code)
    assert answer.json()["error"] == failure.code.lower()
    scheme = answer.headers.get("WWW-Authenticate", "")
    assert scheme.startswith("Basic ") == (status == 401)


async def test_a_form_is_a_form_and_no_larger_than_any_body(edge: Edge) -> None:
    other = await request_token(
        edge, json.dumps({"grant_type": "x"}), **{"Content-Type": "application/json"}
    )
    large = await request_token(edge, GOOD + "&x=" + "y" * 65_536)

    assert (other.status, other.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert (large.status, large.code) == (413, "BODY_TOO_LARGE")


# ---- identity ----


async def test_a_game_server_s_token_says_what_it_may_award(edge: Edge) -> None:
    await grant(edge)

    sent = edge.fakes.received("Award").attempt.grant
    assert (sent.client_id, list(sent.action_types)) == (ARENA, ["WIN_GAME"])


@pytest.mark.parametrize(
    "changed",
    [{"client_id": BOB}, {"action_types": "WIN_GAME"}, {"action_types": [1]}, {"scope": None}],
)
async def test_a_game_server_s_token_that_is_none_is_refused(
    edge: Edge, changed: dict[str, Any]
) -> None:
    token = edge.fakes.signer.client_token(**changed)
    answer = await edge.call("POST", f"{API}/scores/award", GRANT, token=token)

    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")


# ---- awards ----


async def test_a_game_server_awards_a_player_by_its_own_word(edge: Edge) -> None:
    answer = await grant(edge, {**GRANT, "scoreIncrement": 50})

    assert answer.status == 200
    assert answer.json()["userId"] == ADA
    sent = edge.fakes.received("Award")
    assert (sent.attempt.user_id, sent.username, sent.name_version) == (ADA, "ada", 3)
    assert (sent.attempt.grant.action_id, sent.attempt.grant.user_id) == (ACTION, ADA)
    assert (sent.attempt.grant.action_type, sent.attempt.grant.score_increment) == ("WIN_GAME", 50)
    assert not sent.attempt.HasField("claims")
    assert (sent.attempt.action_token, sent.key_hash) == ("", b"")
    assert sent.attempt.attempt_id


async def test_what_is_not_stated_is_not_sent(edge: Edge) -> None:
    await grant(edge)

    assert not edge.fakes.received("Award").attempt.grant.HasField("score_increment")


async def test_contents_count_and_not_how_they_are_written(edge: Edge) -> None:
    body = {**GRANT, "scoreIncrement": 50}
    token = edge.fakes.signer.client_token()
    for text in (
        json.dumps(body),
        json.dumps(body, indent=4),
        json.dumps(dict(reversed(body.items()))),
        json.dumps({**body, "scoreIncrement": 51}),
        json.dumps(GRANT),
        json.dumps({**GRANT, "scoreIncrement": None}),
    ):
        await edge.call("POST", f"{API}/scores/award", data=text.encode(), token=token)

    hashes = [item.body_hash for item in edge.fakes.calls["Award"]]
    assert hashes[0] == hashes[1] == hashes[2]
    assert hashes[4] == hashes[5]
    assert len(set(hashes)) == 3


async def test_an_unknown_player_is_404(edge: Edge) -> None:
    answer = await grant(edge, {**GRANT, "userId": ACTION})

    assert (answer.status, answer.code) == (404, "PLAYER_NOT_FOUND")
    assert not edge.fakes.calls["Award"]


@pytest.mark.parametrize("field", ["actionId", "userId", "actionType", "scoreIncrement"])
async def test_a_grant_that_does_not_fit_is_named(edge: Edge, field: str) -> None:
    answer = await grant(edge, {**GRANT, field: True})

    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["field"] == field


async def test_a_name_is_requested_once_a_minute(edge: Edge) -> None:
    with clock.ahead(3600):
        for _ in range(3):
            await grant(edge)
        assert len(edge.fakes.calls["Names"]) == 1
    with clock.ahead(3600 + 61):
        await grant(edge)
    assert len(edge.fakes.calls["Names"]) == 2


async def test_names_are_kept_for_a_bounded_number_of_players(
    fakes: Fakes,
    certificates: Certificates,
    redis: Redis,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "NAMES_MAX", 1)
    async with edge_of(edge_settings(fakes, certificates, redis_url), fakes) as edge:
        for _ in range(2):
            await grant(edge)
            await grant(edge, {**GRANT, "userId": BOB})

    assert len(fakes.calls["Names"]) == 4


async def test_names_are_fetched_in_batches(edge: Edge) -> None:
    with clock.ahead(9000):
        await asyncio.gather(*(grant(edge, {**GRANT, "userId": u}) for u in (ADA, BOB) * 20))

    # One flies alone; what comes meanwhile flies together.
    flights = edge.fakes.calls["Names"]
    assert 1 <= len(flights) <= 4
    assert {user_id for flight in flights for user_id in flight.user_ids} == {ADA, BOB}


async def test_a_player_s_word_awards_nothing(edge: Edge) -> None:
    for scope in (PLAYER, f"{PLAYER} scores:award"):
        token = edge.fakes.signer.token(scope=scope)
        answer = await edge.call("POST", f"{API}/scores/award", GRANT, token=token)
        assert (answer.status, answer.code) == (403, "FORBIDDEN")
