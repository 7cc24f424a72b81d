"""Tests of the simulated players, against a server that stands in for the API."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from local.players import Player, Tally, address
from local.roster import Roster
from scoreboard_client import Client

DAY_S = 24 * 3600.0


class Enough(BaseException):
    """Ends a player's life in a test."""


@dataclass
class Api:
    """Responds as the API does, and records the requests and their times by the player's clock."""

    now: float = 0.0
    until: float = float("inf")
    slept: list[float] = field(default_factory=list)
    requests: list[tuple[str, float, dict[str, Any]]] = field(default_factory=list)
    refusals: list[tuple[int, dict[str, Any]] | None] = field(default_factory=list)  # None: none
    enough_entered: int | None = None  # the play ends once so many have come in
    entering: int = 0
    entering_max: int = 0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.now > self.until:
            raise Enough
        await asyncio.sleep(0)

    async def respond(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/api/v1")
        body = await request.json()
        self.requests.append((path, self.now, body))
        if path in ("/auth/login", "/auth/register"):
            self.entering += 1
            self.entering_max = max(self.entering_max, self.entering)
            await asyncio.sleep(0.01)
            self.entering -= 1
            if len(self.times(path)) == self.enough_entered:
                self.until = self.now
        if self.refusals and (refusal := self.refusals.pop(0)):
            status, problem = refusal
            return web.json_response(
                problem, status=status, content_type="application/problem+json"
            )
        return web.json_response(ANSWER)

    def times(self, path: str) -> list[float]:
        return [at for called, at, _ in self.requests if called == path]

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.requests]


# All that a client reads of any response; it ignores fields of others.
ANSWER = {
    "userId": "u",
    "username": "n",
    "accessToken": "a",
    "refreshToken": "r",
    "expiresIn": 10**6,
    "actionId": "i",
    "actionType": "WIN_GAME",
    "actionToken": "t",
    "signingKey": "a2V5",
    "nonce": "bm9uY2U",
    "issuedAt": "2026-01-01T00:00:00.000Z",
    "expiresAt": "2026-01-01T00:05:30.000Z",
    "minDurationMs": 3000,
    "maxDurationMs": 9000,
    "oldScore": 0,
    "newScore": 50,
    "scoreIncrement": 50,
    "rank": 1,
    "oldRank": None,
    "version": 1,
    "timestamp": "2026-01-01T00:00:00.000Z",
    "warnings": [],
    "held": False,
}


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, str]]:
    api = Api()
    app = web.Application()
    app.router.add_post("/{path:.*}", api.respond)
    async with TestServer(app) as server:
        yield api, str(server.make_url("/"))


@dataclass
class Stage:
    """Players of one roster at one stand-in."""

    api: Api
    url: str
    path: Path
    tally: Tally = field(default_factory=Tally)

    async def play(self, *, until_s: float, players: int = 1, seed: int = 1) -> Roster:
        """Lets them play until one of them has waited that long, all waits taken together."""
        self.api.until = self.api.now + until_s
        roster, lock = Roster(self.path, count=players), asyncio.Lock()

        async def one(number: int) -> None:
            async with Client(self.url) as client:
                player = Player(
                    client=client,
                    person=roster.people[number],
                    roster=roster,
                    login_lock=lock,
                    tally=self.tally,
                    chance=random.Random(seed + number),
                    sleep=self.api.sleep,
                )
                with pytest.raises(Enough):
                    await player.live()

        await asyncio.gather(*(one(number) for number in range(players)))
        return roster


@pytest.fixture
def stage(api: tuple[Api, str], tmp_path: Path) -> Stage:
    return Stage(*api, tmp_path / "players.json")


async def test_a_day_of_play_stays_within_the_limits(stage: Stage) -> None:
    await stage.play(until_s=DAY_S)

    requests = stage.api.times("/actions/request")
    assert stage.tally.failures == {}
    assert 300 < len(requests) <= 500
    assert most_within(requests, 60) <= 10
    assert most_within(requests, 3600) <= 100
    assert 3 <= most_within(requests, 300) / 5 <= 6


async def test_players_play_as_long_as_they_claim_and_prove_it_in_three_ways(stage: Stage) -> None:
    await stage.play(until_s=1800)

    started, ways = 0.0, set()
    for path, at, body in stage.api.requests:
        if path == "/actions/request":
            started = at
        if "proof" in body:
            claimed_s = body["proof"]["completionTime"] / 1000
            assert 3 <= claimed_s <= 9
            assert claimed_s == pytest.approx(at - started)
        if path in ("/scores/update", "/scores/increment") or body.get("actionToken"):
            ways.add(path)
    assert ways == {"/actions/complete", "/scores/update", "/scores/increment"}


async def test_one_player_at_a_time_logs_in(stage: Stage) -> None:
    stage.api.enough_entered = 6
    await stage.play(until_s=float("inf"), players=6)

    assert stage.api.paths().count("/auth/register") == 6
    assert stage.api.entering_max == 1


async def test_failures_are_counted_and_followed_by_pauses_that_grow_to_half_a_minute(
    stage: Stage,
) -> None:
    stage.api.refusals = [(503, {"code": "SERVICE_UNAVAILABLE"})] * 5
    await stage.play(until_s=110)

    pauses = [wait for wait in stage.api.slept if wait != 0.5][:5]
    assert pauses == [5, 10, 20, 30, 30]
    assert stage.tally.failures == {"SERVICE_UNAVAILABLE": 5}
    assert "/actions/request" in stage.api.paths()


async def test_a_limit_is_waited_for_as_long_as_the_server_says(stage: Stage) -> None:
    stage.api.refusals = [(429, {"code": "RATE_LIMITED", "retryAfter": 77})]
    await stage.play(until_s=100)

    assert 77 in stage.api.slept


async def test_a_player_whose_account_is_missing_registers_again(stage: Stage) -> None:
    await stage.play(until_s=30)
    stage.api.requests.clear()
    stage.api.refusals = [(401, {"code": "INVALID_CREDENTIALS"})]
    await stage.play(until_s=60)

    assert stage.api.paths()[:3] == ["/auth/login", "/auth/register", "/actions/request"]


async def test_an_ended_session_is_followed_by_a_new_login(stage: Stage) -> None:
    await stage.play(until_s=30)
    stage.api.requests.clear()
    stage.api.refusals = [None, (401, {"code": "ACCESS_TOKEN_REVOKED"})]
    await stage.play(until_s=60)

    assert stage.api.paths()[:3] == ["/auth/login", "/actions/request", "/auth/login"]


async def test_a_name_that_is_taken_is_given_up_for_another(stage: Stage) -> None:
    stage.api.refusals = [(409, {"code": "USERNAME_TAKEN"})]
    roster = await stage.play(until_s=30)

    first, second = (body["username"] for path, _, body in stage.api.requests if "register" in path)
    assert first != second == roster.people[0].username


async def test_a_second_start_brings_the_same_players_back(stage: Stage) -> None:
    await stage.play(until_s=300, players=3)
    before = stage.path.read_text()
    stage.api.requests.clear()
    await stage.play(until_s=300, players=2)

    assert stage.path.read_text() == before
    assert stage.path.stat().st_mode & 0o777 == 0o600
    assert set(stage.api.paths()) >= {"/auth/login"}
    assert "/auth/register" not in stage.api.paths()


def test_names_are_fit_for_accounts_and_each_is_used_once(tmp_path: Path) -> None:
    people = Roster(tmp_path / "players.json", count=500).people

    assert len({person.username for person in people}) == 500
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{3,20}", person.username) for person in people)


def test_each_player_comes_from_a_network_of_its_own() -> None:
    networks = {address(number).rpartition(".")[0] for number in range(500)}

    assert len(networks) == 500
    assert all(network.startswith("10.") for network in networks)


def test_the_summary_is_one_line_and_starts_the_count_again() -> None:
    tally = Tally(awards=70, points=2400, resting=2)
    tally.failures["RATE_LIMITED"] = 3

    assert tally.summary(players=20) == (
        "players: 18 play, 2 rest; 70 awards, 2400 points, 3 failures (RATE_LIMITED 3)"
    )
    assert tally.summary(players=20) == ("players: 18 play, 2 rest; 0 awards, 0 points, 0 failures")


def most_within(times: list[float], seconds: float) -> int:
    """The most that fall into any window of that length."""
    return max(sum(start <= at < start + seconds for at in times) for start in times)
