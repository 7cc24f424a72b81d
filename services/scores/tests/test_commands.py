"""The operators' commands, as processes, on the stores of a service."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import cast

import pytest

from chassis import clock
from chassis.ids import uuid7
from chassis.testing import Certificates
from services.scores.awards.records import Judged
from services.scores.tests.conftest import Scores, item
from services.scores.tests.crowd import crowd

KEYS_TEXT = f"1:{'A' * 43}"  # those of the served service


@pytest.fixture
def environment(scores_database: dict[str, str], redis_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": scores_database["scores"],
        "REDIS_URL": redis_url,
        "SEAL_KEYS": KEYS_TEXT,
    }


async def _run(environment: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """The exit code of `python -m services.scores …`, and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.scores",
        *arguments,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_rebuild_empties_the_boards_fills_them_and_shows_how_far_it_is(
    scores: Scores, environment: dict[str, str]
) -> None:
    await crowd(scores.admin, 3000)
    await scores.redis.flushall()
    await scores.upkeep.rebuild.work()
    await scores.redis.zadd("leaderboard:{all_time}", {b"no one's entry, 24 bytes": 1})

    code, out, err = await _run(environment, "rebuild")

    assert (code, out.startswith("rebuilt all_time, daily:")) == (0, True), err
    line = json.loads(err.splitlines()[-1])
    assert (line["event"], line["stream"], line["unit"]) == ("command_run", "audit", "scores")
    assert (line["command"], line["arguments"], line["code"]) == ("rebuild", [], 0)
    for name in ("all_time", "daily"):
        known = scores.registry.get(name)
        period = known.at(clock.now_ms())
        assert period is not None
        assert await scores.redis.zcard(period.keys.entries) == 3000
        assert await scores.upkeep.redis_boards.ready(period)


async def test_rebuild_of_one_board_leaves_the_others_and_waits_for_a_service_that_does_it(
    scores: Scores, environment: dict[str, str]
) -> None:
    await crowd(scores.admin, 100)
    await scores.redis.flushall()
    await scores.upkeep.rebuild.work()
    service = asyncio.create_task(scores.upkeep.rebuild.run())
    try:
        code, out, err = await _run(environment, "rebuild", "--board", "weekly")
    finally:
        service.cancel()

    assert (code, out.count(":")) == (0, 1), err
    progress = await scores.upkeep.rebuild.progress()
    assert progress is not None
    assert [tag.partition(":")[0] for tag in progress.boards] == ["weekly"]


async def test_audit_finds_then_repairs_and_says_so_by_its_code(
    scores: Scores, environment: dict[str, str]
) -> None:
    await scores.award(*(item(uuid7(), 5 + i) for i in range(5)))
    await scores.awards.publisher.drain()
    (entry,) = cast(list[bytes], await scores.redis.zrange("leaderboard:{all_time}", 0, 0))
    await scores.redis.zincrby("leaderboard:{all_time}", 1, entry)

    found = await _run(environment, "audit", "--board", "all_time")
    repaired = await _run(environment, "audit", "--repair")
    clean = await _run(environment, "audit")

    assert (found[0], repaired[0], clean[0]) == (1, 0, 0), (found, repaired, clean)
    assert "all_time: checked 10, wrong 2" in found[1]
    assert "ledger: counted 5 players again, wrong 0" in found[1]


async def test_audit_of_seals_proves_closed_periods_and_sees_what_was_changed(
    scores: Scores, environment: dict[str, str]
) -> None:
    await scores.award(*(item(uuid7(), 5 + i) for i in range(5)))
    known = scores.registry.get("daily")
    period = known.at(clock.now_ms())
    assert period is not None
    try:
        with clock.ahead(24 * 3600):
            await scores.periods.closer.work(1)
        proved = await _run(environment, "audit", "--seals")
        other = await _run({**environment, "SEAL_KEYS": f"9:{'A' * 43}"}, "audit", "--seals")
        await scores.admin.execute("UPDATE scores.finals SET score = 999 WHERE position = 2")
        changed = await _run(environment, "audit", "--seals")
        await scores.admin.execute("ALTER TABLE scores.ledger DISABLE TRIGGER insert_only")
        await scores.admin.execute(
            "UPDATE scores.ledger SET points = points + 1, new_score = new_score + 1"
        )
        edited = await _run(environment, "audit", "--seals", "--board", "daily")
    finally:
        await scores.admin.execute("ALTER TABLE scores.ledger ENABLE TRIGGER insert_only")
        await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
        await scores.registry.refresh()

    assert (proved[0], changed[0], edited[0], other[0]) == (0, 1, 1, 1), proved
    assert "5 players" in proved[1]
    assert "proved" in proved[1]
    assert "TABLE WAS CHANGED" in changed[1]
    assert "LEDGER" not in changed[1]
    assert "LEDGER SAYS OTHERWISE" in edited[1]
    assert "not in the ring" in other[1]


async def test_replay_awards_what_waits_in_the_journal(
    scores: Scores, environment: dict[str, str], certificates: Certificates
) -> None:
    user = uuid7()
    judged = Judged(
        action_id=uuid7(),
        user_id=user,
        username="ada",
        name_version=1,
        action_type="WIN_GAME",
        points=50,
        attempt_id=uuid7(),
    )
    await scores.awards.journal.queue([judged])
    settings = {
        "TLS_DIR": str(certificates.folder / "scores"),
        "JOURNAL_KEYS": KEYS_TEXT,
        "CURSOR_KEYS": KEYS_TEXT,
        "ACTIONS_TARGET": "127.0.0.1:9",  # unavailable: the relay settles later
        "FRAUD_TARGET": "127.0.0.1:9",
    }

    code, out, err = await _run(environment | settings, "replay")

    assert (code, out) == (0, "1 waited, 1 were worked off, 0 are left\n"), err
    assert await scores.pool.fetchval("SELECT total FROM scores.players") == 50


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["audit", "--board", "nowhere"], 1, "There is no such board"),
        (["rebuild", "--wrong"], 2, "unrecognized arguments"),
        (["replay"], 2, "ACTIONS_TARGET: is required"),
        (["--help"], 0, ""),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_line(
    scores: Scores, environment: dict[str, str], arguments: list[str], code: int, said: str
) -> None:
    ended = await _run(environment, *arguments)

    assert ended[0] == code
    assert said in ended[2]
