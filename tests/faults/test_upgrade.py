"""An upgrade step by step: schema first, then replica by replica, old code beside new.

The next version is a copy of this one with one more migration in each schema, of the kind that
CONTRIBUTING.md asks for first: expand.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from chassis.postgres import migrate
from chassis.testing import eventually
from deploy.databases import UNITS
from local import ports
from local.settings import Settings
from local.suite import processes, units
from tests import books
from tests.faults.load import GIVE_UP_S, Load, playing
from tests.people import new_type, newcomer
from tests.suite import ROOT, Suite

PLAYERS = 6
NEXT = 9000
# What an expand step may do beside code that does not know of it.
EXPAND = {
    "auth": "ALTER TABLE auth.users ADD COLUMN next text",
    "actions": "ALTER TABLE actions.actions ADD COLUMN next bigint NOT NULL DEFAULT 0",
    "scores": "ALTER TABLE scores.ledger ADD COLUMN next text; CREATE TABLE scores.next (id int)",
    "fraud": "ALTER TABLE fraud.events ADD COLUMN next text NOT NULL DEFAULT ''",
}


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose code needs one migration more than this one's."""
    root = tmp_path_factory.mktemp("next")
    for folder in ("chassis", "protos", "services", "gateway", "deploy"):
        shutil.copytree(
            ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "tests")
        )
    for unit in UNITS:
        (root / "services" / unit / "migrations" / f"{NEXT}_next.sql").write_text(EXPAND[unit])
    return root


@contextmanager
def replica(suite: Suite, unit: str, root: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One more replica of a unit, of the code in `root`; ready at the port that is its `ops`."""
    folder = suite.folder()
    places = units.Places(data_dir=folder, ports=ports.kept(folder / "ports.json"))
    given = units.environment(unit, Settings(data_dir=folder), places)
    given |= {"PORT": "0", "OPS_PORT": str(free_port()), "SCOREBOARD_LIMITS": "off"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{unit}"],
            cwd=root,
            env=processes.environment(given),
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(30) in (0, 1, -15)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def test_the_schema_first_then_the_code_and_no_award_is_lost(
    mortal: Suite, next_version: Path, tmp_path: Path
) -> None:
    load = Load([await new_type(mortal, points=points) for points in (3, 5)])
    log = tmp_path / "scores.log"
    async with AsyncExitStack() as stack:
        players = [await stack.enter_async_context(newcomer(mortal)) for _ in range(PLAYERS)]
        async with playing(load, players):
            await load.grown(10)
            # New code on the old schema does not serve: it says what it needs and ends.
            with replica(mortal, "scores", next_version, log) as early:
                await eventually(partial(ended, early), timeout_s=GIVE_UP_S)
            assert early.returncode == 1
            assert f"this code needs {NEXT}" in log.read_text()
            await load.grown(10)

            url = str(mortal.processes()["postgres"]["url"])
            for unit in UNITS:
                folder = next_version / "services" / unit / "migrations"
                assert await migrate(url, schema=unit, folder=folder) == NEXT
            # Old code on the new schema: what runs goes on, and what dies starts again.
            await load.grown(10)
            old = mortal.processes()["scores"]["pid"]
            os.kill(int(old), 9)
            await eventually(partial(replaced, mortal, old), timeout_s=GIVE_UP_S)
            await load.grown(10)

            # New code beside old: its relay, leases and streams are the same.
            with replica(mortal, "scores", next_version, log):
                await eventually(partial(says, log, b'"event":"ready"'), timeout_s=GIVE_UP_S)
                await load.grown(20)

    rows = {row.action_id: books.entry(row) for row in await books.ledger(mortal)}
    for award in load.awards:
        assert rows[award.action_id] == books.entry(award)
    assert not await books.wrong_totals(mortal, [player.user_id for player in players])
    await eventually(partial(books.boards_agree, mortal), timeout_s=GIVE_UP_S)


async def ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


async def replaced(suite: Suite, pid: object) -> bool:
    return bool(suite.processes().get("scores", {"pid": pid})["pid"] != pid)


async def says(log: Path, text: bytes) -> bool:
    return text in await asyncio.to_thread(log.read_bytes)
