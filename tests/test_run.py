"""`python -m local` from a copy of the source: it starts, keeps its data, and leaves nothing."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from aiohttp import ClientSession

from local.suite import processes
from scoreboard_client import Award, Client
from tests.people import PASSWORD, address, newcomer
from tests.suite import ROOT, UNITS, Suite, started

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "scoreboard.v1.json",
}
SECOND_START_S = 30.0  # ten seconds on a machine that has nothing else to do


# Of units, for the second start.
ORIGIN = "https://game.example"
SETTINGS = {"points_max": 3000, "allowed_origins": ORIGIN, "access_s": 77}


@dataclass(frozen=True, kw_only=True)
class First:
    """What the first start left."""

    admin: tuple[str, str]
    username: str
    user_id: str
    award: Award


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def copy(folder: Path) -> Path:
    """The source as a clone has it, compiled as here."""
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "tests"))
    return copy


@pytest.fixture(scope="module")
async def first(folder: Path, copy: Path) -> First:
    with started(folder, root=copy) as suite:
        expect_described(suite, copy)
        async with newcomer(suite) as ada:
            action = await ada.request_action("COMPLETE_LEVEL")
            await asyncio.sleep(action.min_duration_ms / 1000)
            award = await ada.complete(action, completion_time_ms=action.min_duration_ms)
        left = First(admin=suite.admin(), username=ada.username, user_id=ada.user_id, award=award)
    assert not (folder / "data" / "processes.json").exists()
    return left


@pytest.fixture(scope="module")
def second(folder: Path, copy: Path, first: First) -> Iterator[Suite]:
    with started(folder, root=copy, **SETTINGS) as suite:
        yield suite


async def test_a_second_start_finds_everything_as_the_first_left_it(
    first: First, second: Suite
) -> None:
    assert second.ready_s <= SECOND_START_S
    assert second.admin() == first.admin
    async with Client(second.url, headers=address()) as again:
        await again.login(first.username, PASSWORD)
        assert again.user_id == first.user_id
        assert await again.receipt(first.award.action_id) == first.award
        place = await again.place()
        assert (place["score"], place["rank"]) == (first.award.new_score, first.award.rank)


async def test_settings_of_units_reach_a_suite_that_runs(second: Suite) -> None:
    worth = {
        "actionType": "EPIC",
        "title": "Epic",
        "points": 2500,
        "minDurationMs": 0,
        "maxDurationMs": 60_000,
        "tokenTtlS": 300,
    }

    async with Client(second.url) as admin:
        await admin.login(*second.admin())
        made = await admin.call("POST", "/admin/action-types", worth)
    async with ClientSession(f"{second.url}/") as session:
        body = {"username": "grace", "password": PASSWORD}
        async with session.post("/api/v1/auth/register", json=body) as response:
            account = await response.json()
        statuses = {}
        for page in (ORIGIN, second.url):
            headers = {**UPGRADE, "Origin": page}
            async with session.get("/ws/leaderboard", headers=headers) as response:
                statuses[page] = response.status

    assert made["points"] == 2500
    assert account["expiresIn"] == 77
    assert statuses == {ORIGIN: 101, second.url: 403}


def expect_described(suite: Suite, root: Path) -> None:
    """The record names what runs, and all of ours runs from that source."""
    record = suite.processes()
    assert record.keys() == {"url", "postgres", "redis", *UNITS}
    assert record["url"] == suite.url
    for unit in UNITS:
        assert record[unit].keys() == {"pid", "port", "ops_port"}
        assert Path(psutil.Process(record[unit]["pid"]).cwd()) == root
        assert processes.status(f"http://127.0.0.1:{record[unit]['ops_port']}/readyz") == 200
    for server in ("postgres", "redis"):
        assert record[server].keys() == {"pid", "url"}
        assert psutil.Process(record[server]["pid"]).is_running()
