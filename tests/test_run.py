"""`python -m local` from a copy of the source: it starts, keeps its data, and leaves nothing."""

import asyncio
import shutil
from pathlib import Path

import psutil
import pytest
from aiohttp import ClientSession

from local.suite import processes
from scoreboard_client import Client
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


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source as a clone has it, compiled as here."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "tests"))
    return copy


async def test_a_second_start_finds_everything_as_the_first_left_it(
    copy: Path, tmp_path: Path
) -> None:
    with started(tmp_path, root=copy) as suite:
        expect_described(suite, copy)
        first_s, admin = suite.ready_s, suite.admin()
        async with newcomer(suite) as ada:
            action = await ada.request_action("COMPLETE_LEVEL")
            await asyncio.sleep(action.min_duration_ms / 1000)
            award = await ada.complete(action, completion_time_ms=action.min_duration_ms)
    assert not (tmp_path / "data" / "processes.json").exists()

    with started(tmp_path, root=copy) as suite:
        print(f"\nready after {first_s:.1f} s, the second time after {suite.ready_s:.1f} s")
        assert suite.ready_s <= SECOND_START_S
        assert suite.admin() == admin
        async with Client(suite.url, headers=address()) as again:
            await again.login(ada.username, PASSWORD)
            assert again.user_id == ada.user_id
            assert await again.receipt(award.action_id) == award
            place = await again.place()
            assert (place["score"], place["rank"]) == (award.new_score, award.rank)


async def test_settings_of_units_reach_a_suite_that_runs(tmp_path: Path) -> None:
    origin = "https://game.example"
    worth = {
        "actionType": "EPIC",
        "title": "Epic",
        "points": 2500,
        "minDurationMs": 0,
        "maxDurationMs": 60_000,
        "tokenTtlS": 300,
    }

    with started(tmp_path, points_max=3000, allowed_origins=origin, access_s=77) as suite:
        async with Client(suite.url) as admin:
            await admin.login(*suite.admin())
            made = await admin.call("POST", "/admin/action-types", worth)
        async with ClientSession(f"{suite.url}/") as session:
            body = {"username": "ada", "password": PASSWORD}
            async with session.post("/api/v1/auth/register", json=body) as response:
                account = await response.json()
            statuses = {}
            for page in (origin, suite.url):
                headers = {**UPGRADE, "Origin": page}
                async with session.get("/ws/leaderboard", headers=headers) as response:
                    statuses[page] = response.status

    assert made["points"] == 2500
    assert account["expiresIn"] == 77
    assert statuses == {origin: 101, suite.url: 403}


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
