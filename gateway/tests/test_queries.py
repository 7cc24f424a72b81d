"""Queries of URLs: a parameter that is unknown, repeated, empty or wrong is refused by its name."""

import pytest

from chassis.testing import Certificates
from gateway.edge.errors import ERRORS_MAX
from gateway.tests.edge import UPDATE, Answered, Edge, api, edge_of, edge_settings
from gateway.tests.services import ACTION, ADA, ADMIN, BOB, MODERATOR, Fakes
from gateway.tests.test_problems import talk
from gateway.tests.test_routes import SCOPES

API = "/api/v1"
BOARD = f"{API}/leaderboards/daily"
# What each route takes, said a second time: a route that is not here takes none.
TAKES: dict[tuple[str, str], set[str]] = {
    ("GET", "/api/v1/me/scores"): {"limit", "cursor"},
    ("GET", "/api/v1/leaderboard"): {"limit", "cursor", "period"},
    ("GET", "/api/v1/leaderboards/{board}"): {"limit", "cursor", "period"},
    ("GET", "/api/v1/leaderboards/{board}/players/me"): {"radius", "period"},
    ("GET", "/api/v1/leaderboards/{board}/players/{user_id}"): {"radius", "period"},
    ("POST", "/api/v1/leaderboards/{board}/ranks"): {"period"},
    ("GET", "/api/v1/leaderboards/{board}/would-be"): {"score", "period"},
    ("GET", "/ws/leaderboard"): {"token"},
}
# Pages: others decorate the links to them.
ANY = {("GET", "/"), ("GET", "/static/{name}")}


def named(answer: Answered) -> dict[str, str]:
    """The code of each field that a refusal names."""
    assert (answer.status, answer.code) == (422, "VALIDATION_FAILED"), answer.body
    errors = answer.json()["errors"]
    assert all(error["detail"] for error in errors)
    found = {error["field"]: error["code"] for error in errors}
    assert len(found) == len(errors)
    return found


def test_every_parameter_is_listed_here() -> None:
    found: dict[tuple[str, str], set[str] | None] = {
        (method, path): None if query is None else {parameter.name for parameter in query}
        for method, path, query in ((r.method, r.template, r.query) for r in api())
    }
    assert {key for key, names in found.items() if names is None} == ANY
    assert {key: names for key, names in found.items() if names} == TAKES


@pytest.mark.parametrize(("method", "template"), SCOPES)
async def test_every_route_refuses_what_it_does_not_take(
    edge: Edge, method: str, template: str
) -> None:
    path = template.format(
        action_id=ACTION, user_id=ADA, board="daily", name="board.js", action_type="WIN_GAME"
    )
    token: str | None = edge.fakes.signer.token(BOB, scope=ADMIN)
    if SCOPES[method, template] == "scores:award":
        token = edge.fakes.signer.client_token()
    answer = await edge.call(
        method, f"{path}?limt=5&token=&x=1&x=2", {} if method != "GET" else None, token=token
    )

    if (method, template) in ANY:
        assert answer.status == 200
        return
    found = named(answer)
    expected = "EMPTY" if template == "/ws/leaderboard" else "UNKNOWN"
    assert {**found, "token": found["token"]} == found
    assert (found["limt"], found["x"], found["token"]) == ("UNKNOWN", "UNKNOWN", expected)
    assert set(edge.fakes.calls) <= {"SanctionsSince", "Keys"}, "what the gateway follows"


async def test_all_faults_of_a_query_are_named_at_once(edge: Edge) -> None:
    query = "limit=0&period=&cursor=a&cursor=a&limt=5&limt=6&=7"
    answer = await edge.call("GET", f"{BOARD}?{query}")

    assert named(answer) == {
        "limit": "OUT_OF_RANGE",
        "period": "EMPTY",
        "cursor": "REPEATED",
        "limt": "UNKNOWN",
        "": "UNKNOWN",
    }
    assert not edge.fakes.calls["Top"]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (BOARD, "limit=x&period=last&cursor=%20", {"limit", "period", "cursor"}),
        (f"{API}/me/scores", "limit=101&cursor=%20", {"limit", "cursor"}),
        (f"{BOARD}/players/me", "radius=51&period=last", {"radius", "period"}),
        (f"{BOARD}/would-be", "period=last", {"score", "period"}),
        (f"{BOARD}/would-be", f"score={2**53}&period=last", {"score", "period"}),
    ],
)
async def test_every_reader_reports_with_the_others(
    edge: Edge, path: str, query: str, expected: set[str]
) -> None:
    answer = await edge.call("GET", f"{path}?{query}", token=edge.fakes.signer.token())

    assert set(named(answer)) == expected


async def test_query_and_body_are_named_together(edge: Edge) -> None:
    body = {"userIds": ["x"], "friends": []}
    answer = await edge.call("POST", f"{BOARD}/ranks?period=last&limit=1", body)

    assert named(answer) == {
        "period": "INVALID",
        "limit": "UNKNOWN",
        "userIds[0]": "INVALID",
        "friends": "UNKNOWN",
    }


async def test_the_right_parameters_once_each_pass_in_any_order(edge: Edge) -> None:
    for query in ("limit=7&period=previous&cursor=c", "cursor=c&limit=7&period=previous"):
        assert (await edge.call("GET", f"{BOARD}?{query}")).status == 200
    for bare in ("?", "?&", ""):
        assert (await edge.call("GET", f"{BOARD}{bare}")).status == 200

    sent = [(item.limit, item.period, item.cursor) for item in edge.fakes.calls["Top"]]
    assert sent == [(7, "previous", "c")] * 2 + [(10, "", "")] * 3


async def test_a_caller_who_may_not_is_refused_for_that_alone(edge: Edge) -> None:
    nameless = await edge.call("GET", f"{API}/me/scores?limt=1")
    player = await edge.call(
        "GET", f"{API}/admin/boards?x=1", token=edge.fakes.signer.token(scope=MODERATOR)
    )
    nowhere = await edge.call("GET", "/nothing?x=1")

    assert [nameless.status, player.status, nowhere.status] == [401, 403, 404]


async def test_a_hostile_query_gets_a_short_answer(edge: Edge) -> None:
    many = "&".join(f"p{i}=1" for i in range(900))
    long = "n" * 7000
    answers = [
        await edge.call("GET", f"{BOARD}?{many}"),
        await edge.call("GET", f"{BOARD}?{long}=1"),
        await edge.play(f"/scores/update?{many}", {**UPDATE, "x": 1}),
    ]

    for answer in answers:
        assert len(named(answer)) <= ERRORS_MAX
        assert len(answer.body) < 8192
    assert len(named(answers[0])) == ERRORS_MAX


async def test_unreadable_queries_count_against_the_limit(edge: Edge) -> None:
    statuses = [(await edge.call("GET", f"{BOARD}?x=1")).status for _ in range(101)]

    assert statuses == [422] * 100 + [429]


@pytest.mark.parametrize("raw", ["%ff=1", "limit=%ff", "%00=1", "limit=%00", "%ED%A0%80=1", "a;b"])
async def test_what_is_no_text_is_named_too(edge: Edge, raw: str) -> None:
    head = f"GET {BOARD}?{raw} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await talk(edge, head.encode())

    assert b" 422 " in answer[:14]
    assert b'"VALIDATION_FAILED"' in answer


async def test_a_token_in_the_query_is_named_where_it_does_not_count(
    fakes: Fakes, certificates: Certificates, redis_url: str
) -> None:
    settings = edge_settings(fakes, certificates, redis_url, ws_query_token=False)
    async with edge_of(settings, fakes) as edge:
        answer = await edge.call("GET", "/ws/leaderboard?token=ada")

    assert named(answer) == {"token": "UNKNOWN"}
