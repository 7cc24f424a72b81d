"""The drill: Postgres and Redis are lost, and come back from a base backup and archived WAL.

`make drill` runs it and prints how long each step took. docs/operations.md (*Backup and restore*)
has the same steps for an installation.
"""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from chassis.testing import eventually
from local.servers import binaries
from scoreboard_client import Award
from tests import books
from tests.faults.load import GIVE_UP_S, Load, playing
from tests.operating import ordered
from tests.people import new_type, newcomer
from tests.suite import Suite, started

PLAYERS = 8

# A whole suite is started twice.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' account reaches as well."""
    with tempfile.TemporaryDirectory(prefix="sb-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def tools(folder: Path, missing: Callable[[str], NoReturn]) -> Path:
    """The folder of Postgres' programs, with those that make backups."""
    found, _ = binaries.reachable_postgres(folder)
    if not (found / "pg_basebackup").exists():
        missing("pg_basebackup")
    return found


async def test_what_was_archived_is_there_again_and_boards_follow_from_it(
    folder: Path, tools: Path
) -> None:
    suite_folder, backup, archive = (folder / name for name in ("suite", "backup", "wal"))
    suite_folder.mkdir()
    for each in (backup, archive):
        binaries.make_folder(each)
    with started(suite_folder, limits="off") as suite:
        load = Load([await new_type(suite, points=points) for points in (3, 5)])
        async with AsyncExitStack() as stack:
            players = [await stack.enter_async_context(newcomer(suite)) for _ in range(PLAYERS)]
            async with playing(load, players):
                await load.grown(20)
                with archiving(suite, tools, archive):
                    took_s = await back_up(suite, tools, backup)
                    await load.grown(20)
                    kept = await archived(suite, archive)
                await load.grown(20)  # no one archives these
        answered = {award.action_id: award for award in load.awards}

    data = lose_everything(suite_folder / "data")
    since = time.monotonic()
    restore(data, backup, archive)
    with started(suite_folder, limits="off") as suite:
        await eventually(partial(books.boards_agree, suite), timeout_s=GIVE_UP_S)
        back_s = time.monotonic() - since
        rows = await books.ledger(suite)

        assert [books.entry(row) for row in rows[: len(kept)]] == [books.entry(row) for row in kept]
        assert not books.broken_chains(rows)
        assert {row.action_id for row in rows} <= answered.keys()
        for command in (["audit"], ["audit", "--seals"]):
            code, said = await ordered(suite, "scores", *command)
            assert code == 0, said
        await still_plays(suite, load)
    print(
        f"\nbase backup in {took_s:.1f} s; {len(rows)} of {len(answered)} awards back,"
        f" {len(kept)} of them archived before; serving and exact after {back_s:.1f} s"
    )


@contextmanager
def archiving(suite: Suite, tools: Path, archive: Path) -> Iterator[None]:
    """Within it every WAL record goes to the archive as it is written."""
    command: list[str | Path] = [tools / "pg_receivewal", "-d", postgres_url(suite), "-D", archive]
    with subprocess.Popen(command, cwd="/", **binaries.run_as()) as receiver:
        yield
        receiver.terminate()
        receiver.wait(10)


async def back_up(suite: Suite, tools: Path, backup: Path) -> float:
    """Makes a base backup, and checks it; returns how long the former took, in seconds."""
    since = time.monotonic()
    base: list[str | Path] = [tools / "pg_basebackup", "-d", postgres_url(suite), "-D", backup]
    await asyncio.to_thread(run, *base, "-c", "fast", "-X", "none")
    took_s = time.monotonic() - since
    await asyncio.to_thread(run, tools / "pg_verifybackup", "-q", "-n", backup)
    return took_s


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, cwd="/", timeout=60, **binaries.run_as())


async def archived(suite: Suite, archive: Path) -> list[Award]:
    """The ledger as it is, once the archive has all of it."""
    rows = await books.ledger(suite)
    ((segment,),) = await suite.sql("SELECT pg_walfile_name(pg_switch_wal())")

    complete = archive / str(segment)

    async def received() -> bool:
        return complete.exists()

    await eventually(received, timeout_s=GIVE_UP_S)
    return rows


def lose_everything(data: Path) -> Path:
    """Removes both stores' data; returns where Postgres' was."""
    (cluster,) = data.glob("pg*[0-9]")
    shutil.rmtree(cluster)
    shutil.rmtree(data / "redis")
    return cluster


def restore(cluster: Path, backup: Path, archive: Path) -> None:
    """Puts the backup where the data was, to be brought up to the archive's end at the start."""
    shutil.copytree(backup, cluster)
    command = f'cp "{archive}/%f" "%p" || cp "{archive}/%f.partial" "%p"'
    with (cluster / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"restore_command = '{command}'\n")
    (cluster / "recovery.signal").touch()
    cluster.chmod(0o700)
    binaries.give(cluster)


async def still_plays(suite: Suite, load: Load) -> None:
    """A new player is awarded, and comes onto the board."""
    again = Load(load.action_types)
    async with newcomer(suite) as player, playing(again, [player]):
        await again.grown(1)
    await eventually(partial(books.boards_agree, suite), timeout_s=GIVE_UP_S)


def postgres_url(suite: Suite) -> str:
    return str(suite.processes()["postgres"]["url"])
