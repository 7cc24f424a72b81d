"""Calls of players and game servers against a server of ours that says what a real one may say."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestServer

from scoreboard_client import ApiError, Client, GameServer, Limit, api, new_action_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
AWARD = {
    "actionId": "a1",
    "userId": "u1",
    "oldScore": 0,
    "newScore": 50,
    "scoreIncrement": 50,
    "rank": 1,
    "newRank": 1,
    "oldRank": None,
    "version": 1,
    "timestamp": "2026-01-01T00:00:00.000Z",
    "warnings": [],
    "held": False,
}


@asynccontextmanager
async def _serving(**routes: Handler) -> AsyncIterator[str]:
    """A server of `POST_auth_token=handler` and the like, below /api/v1."""
    app = web.Application()
    for name, handler in routes.items():
        method, _, path = name.partition("_")
        app.router.add_route(method, f"/api/v1/{path.replace('_', '/')}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


class _Arena:
    """What a game server sends and receives."""

    def __init__(self, *, expires_in: int = 300) -> None:
        self.expires_in = expires_in
        self.asked: list[BasicAuth] = []
        self.grants: list[Any] = []

    async def token(self, request: web.Request) -> web.StreamResponse:
        assert (await request.post())["grant_type"] == "client_credentials"
        self.asked.append(BasicAuth.decode(request.headers["Authorization"]))
        return web.json_response(
            {"access_token": f"t{len(self.asked)}", "expires_in": self.expires_in}
        )

    async def award(self, request: web.Request) -> web.StreamResponse:
        self.grants.append((request.headers["Authorization"], await request.json()))
        return web.json_response(AWARD)


async def test_a_game_server_awards_under_one_token_for_as_long_as_that_lives() -> None:
    arena = _Arena()
    async with (
        _serving(POST_auth_token=arena.token, POST_scores_award=arena.award) as url,
        GameServer(url, "c1", "s3cret") as server,
    ):
        award = await server.award("u1", "WIN_GAME", action_id="a1", score_increment=50)
        await server.award("u2", "WIN_GAME")

    assert award.new_score == 50
    assert [(asked.login, asked.password) for asked in arena.asked] == [("c1", "s3cret")]
    first, second = arena.grants
    assert first == (
        "Bearer t1",
        {"actionId": "a1", "userId": "u1", "actionType": "WIN_GAME", "scoreIncrement": 50},
    )
    assert sorted(second[1]) == ["actionId", "actionType", "userId"]


async def test_a_token_that_is_about_to_end_is_renewed() -> None:
    arena = _Arena(expires_in=api.RENEW_BEFORE_S)
    async with (
        _serving(POST_auth_token=arena.token, POST_scores_award=arena.award) as url,
        GameServer(url, "c1", "s") as server,
    ):
        for _ in range(2):
            await server.award("u1", "WIN_GAME")

    assert [token for token, _ in arena.grants] == ["Bearer t1", "Bearer t2"]


async def test_refused_credentials_are_an_error_with_its_code() -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {"code": "INVALID_CLIENT"}, status=401, content_type="application/problem+json"
        )

    async with _serving(POST_auth_token=refuse) as url, GameServer(url, "c1", "s") as server:
        with pytest.raises(ApiError, match="INVALID_CLIENT"):
            await server.award("u1", "WIN_GAME")


def test_an_action_s_id_is_a_uuid_of_version_7_made_now() -> None:
    made = [new_action_id() for _ in range(100)]

    form = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(form, one) for one in made)
    assert len(set(made)) == len(made)
    assert abs(int(made[0].replace("-", "")[:12], 16) - time.time() * 1000) < 5000


async def test_pages_and_the_ledger_are_walked_to_their_end() -> None:
    seen: list[str] = []

    async def page(request: web.Request) -> web.StreamResponse:
        seen.append(request.query_string)
        number = int(request.query.get("cursor", "0"))
        following = str(number + 1) if number < 2 else None
        return web.json_response(
            {"entries": [number], "rows": [{"points": number}], "nextCursor": following}
        )

    async with (
        _serving(GET_me_scores=page, GET_leaderboards_daily=page) as url,
        Client(url) as client,
    ):
        pages = [page["entries"] async for page in client.pages("daily", period="previous")]
        rows = [row["points"] async for row in client.history()]

    assert (pages, rows) == ([[0], [1], [2]], [0, 1, 2])
    assert seen[1] == "limit=100&period=previous&cursor=1"


async def test_a_play_is_given_up_by_its_action() -> None:
    given_up: list[str] = []

    async def delete(request: web.Request) -> web.StreamResponse:
        given_up.append(request.path)
        return web.Response(status=204)

    async with _serving(DELETE_actions_a1=delete) as url, Client(url) as client:
        await client.give_up("a1")

    assert given_up == ["/api/v1/actions/a1"]


async def test_a_refusal_shows_all_that_the_server_said() -> None:
    problem = {"code": "SUSPICIOUS_ACTIVITY", "bound": "minDurationMs", "limitMs": 1000}

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response(problem, status=400, content_type="application/problem+json")

    async with _serving(DELETE_actions_a1=refuse) as url, Client(url) as client:
        with pytest.raises(ApiError) as refused:
            await client.give_up("a1")

    assert refused.value.problem == problem


async def test_the_limits_that_responses_name_are_kept_of_refusals_too() -> None:
    policies = iter(
        ['"actions";q=10;w=60, "actions-hour";q=100;w=3600', '"requests";q=9;w=60', "x"]
    )

    async def types(_: web.Request) -> web.StreamResponse:
        headers = {"RateLimit-Policy": next(policies)}
        return web.json_response({}, status=429, headers=headers)

    async with _serving(GET_actions=types) as url, Client(url) as client:
        for _ in range(3):
            with pytest.raises(ApiError):
                await client.call("GET", "/actions")

        assert client.limits == {
            "actions": Limit(10, 60),
            "actions-hour": Limit(100, 3600),
            "requests": Limit(9, 60),
        }
