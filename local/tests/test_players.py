"""Tests of the simulated players in simulated time, at a stand-in for what the API answers."""

import asyncio
import bisect
import random
import re
import selectors
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.players import Player, Rounds, Tally, address
from local.roster import Roster
from scoreboard_client import ApiError, Client, Limit

DAY_S = 24 * 3600.0
POINTS = {"COMPLETE_LEVEL": 10, "WIN_GAME": 50, "COMPLETE_QUEST": 100}
LIMITS = {
    "actions": Limit(10, 60),
    "actions-hour": Limit(100, 3600),
    "actions-day": Limit(500, 86400),
}
# All that a client reads of any response; it ignores fields of others.
ANSWER = {
    "accessToken": "a",
    "refreshToken": "r",
    "expiresIn": 10**6,
    "actionToken": "t",
    "signingKey": "a2V5",
    "nonce": "bm9uY2U",
    "issuedAt": "2026-01-01T00:00:00.000Z",
    "expiresAt": "2026-01-01T00:05:30.000Z",
    "minDurationMs": 3000,
    "maxDurationMs": 9000,
    "oldScore": 0,
    "rank": 1,
    "oldRank": None,
    "version": 1,
    "timestamp": "2026-01-01T00:00:00.000Z",
    "warnings": [],
    "held": False,
}


class Time(selectors.DefaultSelector):
    """The time of a loop in which nothing takes any: a wait ends at once."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now_s += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop that lives in simulated time."""

    def __init__(self) -> None:
        self.simulated = Time()
        super().__init__(self.simulated)

    def time(self) -> float:
        return self.simulated.now_s


@dataclass
class Api:
    """Answers as the API does, and records what it was asked, by whom and when."""

    limits: Mapping[str, Limit] = field(default_factory=lambda: LIMITS)
    chosen: dict[str, str] = field(default_factory=dict)  # the action type of each player's play
    scores: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, float, str, dict[str, Any]]] = field(default_factory=list)
    plays: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    awards: list[float] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)  # awards that the first ten show
    refusals: list[ApiError | None] = field(default_factory=list)  # None: none

    def answer(self, player: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        now_s = asyncio.get_running_loop().time()
        self.requests.append((path, now_s, player, body))
        if self.refusals and (refusal := self.refusals.pop(0)):
            raise refusal
        answer = {**ANSWER, "userId": player, "username": player, "actionId": "i"}
        if path == "/actions/types":
            return {"types": [{"actionType": name, "points": p} for name, p in POINTS.items()]}
        if path.startswith("/leaderboards/all_time"):
            first = sorted(self.scores.values())[:-11:-1]
            return {"entries": [{"score": score} for score in first]}
        if path == "/actions/request":
            self._count(player, now_s)
            name = self.chosen[player] = body["actionType"]
            return {**answer, "actionType": name, "scoreIncrement": POINTS[name]}
        if path == "/actions/complete" and "actionToken" not in body:
            return {**answer, "scoreIncrement": POINTS[body["actionType"]]}
        if path.startswith(("/actions/complete", "/scores/")):
            points = POINTS[self.chosen[player]]
            self.scores[player] += points
            self.awards.append(now_s)
            # Of equal scores the first stands first.
            ahead = sum(score >= self.scores[player] for score in self.scores.values()) - 1
            if ahead < 10:
                self.moves.append(now_s)
            answer |= {"newScore": self.scores[player], "scoreIncrement": points}
        return answer

    def paths(self) -> list[str]:
        return [path for path, *_ in self.requests]

    def _count(self, player: str, now_s: float) -> None:
        times = self.plays[player]
        for limit in self.limits.values():
            if len(times) - bisect.bisect(times, now_s - limit.window_s) >= limit.requests:
                wait_s = times[-limit.requests] + limit.window_s - now_s
                raise refused(429, "RATE_LIMITED", retryAfter=wait_s)
        times.append(now_s)


class Connected(Client):
    """A client whose requests reach the stand-in."""

    def __init__(self, name: str, api: Api) -> None:
        super().__init__("http://stand.example")
        self._name, self._api = name, api

    async def _send(self, method: str, path: str, **given: Any) -> Any:
        self.limits |= self._api.limits
        return self._api.answer(self._name, path, given.get("json") or {})


@dataclass
class Stage:
    """Players of one roster at one stand-in."""

    api: Api
    path: Path
    tally: Tally = field(default_factory=Tally)

    def play(self, seconds: float, *, players: int = 1, seed: int = 1) -> Roster:
        """Lets them play for so long, from time 0."""
        roster = Roster(self.path, count=players)

        async def played() -> None:
            rounds = Rounds(
                players=[
                    Player(
                        client=Connected(str(number), self.api),
                        person=roster.people[number],
                        roster=roster,
                        chance=random.Random(seed + number),
                    )
                    for number in range(players)
                ],
                tally=self.tally,
                chance=random.Random(seed),
                now_s=asyncio.get_running_loop().time,
            )
            try:
                async with asyncio.timeout(seconds):
                    await rounds.run()
            except TimeoutError:
                pass

        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(played())
        return roster


def refused(status: int, code: str, **more: object) -> ApiError:
    return ApiError(status, {"code": code, **more})


@pytest.mark.timeout(400)  # a day of 22,500 plays
def test_awards_follow_each_other_within_seconds_for_a_day(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.play(DAY_S, players=50)

    api = stage.api
    assert stage.tally.failures == {}
    assert api.awards[0] < 10
    assert longest_gap([*api.awards, DAY_S]) < 10
    assert DAY_S / len(api.awards) < 4
    # And those who watch see most of it, from the first minutes on.
    assert DAY_S / len(api.moves) < 6
    assert longest_gap([at for at in api.moves if at < 600]) < 30
    assert longest_gap([*api.moves, DAY_S]) < 60
    for times in api.plays.values():
        assert 400 < len(times) <= 500
        assert all(
            most_within(times, limit.window_s) <= limit.requests for limit in LIMITS.values()
        )


def test_the_pace_follows_from_the_limits_that_the_server_names(tmp_path: Path) -> None:
    plays = {}
    for requests in (100, 500):
        api = Api(limits={"actions-day": Limit(requests, 86400)})
        stage = Stage(api, tmp_path / "players.json")
        stage.play(DAY_S / 4, players=10)
        assert stage.tally.failures == {}
        plays[requests] = len(api.awards)

    assert plays[500] / plays[100] == pytest.approx(5, rel=0.1)


def test_one_who_is_refused_rests_as_long_as_the_server_says_and_the_others_play_on(
    tmp_path: Path,
) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.api.refusals = [refused(429, "RATE_LIMITED", retryAfter=900)]
    stage.play(1800, players=20)

    resting = stage.api.requests[0][2]
    times = sorted(at for _, at, player, _ in stage.api.requests if player == resting)
    assert stage.tally.failures == {"RATE_LIMITED": 1}
    assert times[1] >= times[0] + 900
    assert longest_gap(stage.api.awards) < 25


def test_players_play_as_long_as_they_claim_and_prove_it_in_three_ways(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.play(6 * 3600)

    started, ways = 0.0, set()
    for path, at, _, body in stage.api.requests:
        if path == "/actions/request":
            started = at
        if "proof" in body:
            claimed_s = body["proof"]["completionTime"] / 1000
            assert 3 <= claimed_s <= 6
            assert claimed_s == pytest.approx(at - started, abs=0.01)
        if path in ("/scores/update", "/scores/increment") or body.get("actionToken"):
            ways.add(path)
    assert ways == {"/actions/complete", "/scores/update", "/scores/increment"}


def test_failures_are_counted_and_come_no_faster_than_turns(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.api.refusals = [refused(503, "SERVICE_UNAVAILABLE")] * 10_000
    stage.play(600, players=50)

    assert 100 < stage.tally.failures["SERVICE_UNAVAILABLE"] < 220
    assert stage.tally.awards == 0


def test_a_player_whose_account_is_missing_registers_again_at_once(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.play(30)
    stage.api.requests.clear()
    stage.api.refusals = [refused(401, "INVALID_CREDENTIALS")]
    stage.play(60)

    assert stage.api.paths()[:2] == ["/auth/login", "/auth/register"]
    assert "/actions/request" in stage.api.paths()


def test_an_ended_session_is_followed_by_a_new_login(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.play(30)
    stage.api.requests.clear()
    stage.api.refusals = [None, None, refused(401, "ACCESS_TOKEN_REVOKED")]
    stage.play(900)

    assert stage.api.paths()[0] == "/auth/login"
    assert stage.api.paths().count("/auth/login") == 2
    assert stage.tally.failures == {"ACCESS_TOKEN_REVOKED": 1}


def test_a_name_that_is_taken_is_given_up_for_another(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.api.refusals = [refused(409, "USERNAME_TAKEN")]
    roster = stage.play(30)

    names = [body["username"] for path, *_, body in stage.api.requests if "register" in path]
    assert names[0] != names[1] == roster.people[0].username
    assert stage.tally.failures == {}


def test_a_second_start_brings_the_same_players_back(tmp_path: Path) -> None:
    stage = Stage(Api(), tmp_path / "players.json")
    stage.play(300, players=3)
    before = stage.path.read_text()
    stage.api.requests.clear()
    stage.play(300, players=2)

    assert stage.path.read_text() == before
    assert stage.path.stat().st_mode & 0o777 == 0o600
    assert stage.api.paths().count("/auth/login") == 2
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
    tally = Tally(awards=70, points=2400)
    tally.failures["RATE_LIMITED"] = 3

    assert tally.summary(players=20, resting=2) == (
        "players: 18 play, 2 rest; 70 awards, 2400 points, 3 failures (RATE_LIMITED 3)"
    )
    assert tally.summary(players=20, resting=2) == (
        "players: 18 play, 2 rest; 0 awards, 0 points, 0 failures"
    )


def longest_gap(times: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise([0.0, *times]))


def most_within(times: list[float], seconds: float) -> int:
    """The most that fall into any window of that length."""
    return max(
        bisect.bisect_left(times, start + seconds) - first for first, start in enumerate(times)
    )
