"""A running suite that tests talk to: started here, or one that runs somewhere already."""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

import asyncpg
import psutil
import pytest

from local import ports
from local.servers.launch import dying_with_parent
from local.suite.processes import environment

ROOT = Path(__file__).parent.parent
UNITS = ("auth", "actions", "scores", "fraud", "realtime", "gateway")

URL = os.environ.get("SCOREBOARD_URL")  # of a deployment; then nothing is started here
# The words that run a unit's command there, with `{unit}` where its name belongs.
COMMAND = os.environ.get("SCOREBOARD_COMMAND")

READY_S = 90.0
STOP_S = 60.0
# Apart from the ports that a suite chooses for itself, so that none of those is this one.
_PORTS = range(10_000, 20_000)
# Settings whose variables have a prefix.
_PREFIXED = ("host", "port", "data_dir", "players", "limits", "bcrypt_cost", "trusted_proxies")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Where a suite listens and, where it is one of ours, what it consists of.

    Whatever looks behind its public address skips the test where the suite is not ours.
    """

    url: str
    data_dir: Path | None = None
    admin_file: Path | None = None  # {"username", "password"}
    ready_s: float = 0.0  # how long it took to start
    clock_offset_s: float = 0.0  # of its clocks, ahead of the machine's

    def folder(self) -> Path:
        """Its data directory."""
        if self.data_dir is None:
            pytest.skip("SCOREBOARD_URL names a suite whose processes are not ours")
        return self.data_dir

    def processes(self) -> dict[str, Any]:
        """Name to pid, ports or URL, as they are now."""
        found: dict[str, Any] = json.loads((self.folder() / "processes.json").read_text())
        return found

    def admin(self) -> tuple[str, str]:
        """Name and password of an administrator."""
        if self.admin_file is None:
            pytest.skip("SCOREBOARD_ADMIN_FILE names no administrator's name and password")
        account = json.loads(self.admin_file.read_text())
        return account["username"], account["password"]

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of a statement, run as Postgres' superuser."""
        connection = await asyncpg.connect(self.processes()["postgres"]["url"], timeout=10)
        try:
            return await connection.fetch(statement, *arguments, timeout=30)
        finally:
            await connection.close()


@contextmanager
def started(folder: Path, *, root: Path = ROOT, **settings: object) -> Iterator[Suite]:
    """A suite of the source tree `root`, ready; its data and its log are in `folder`.

    `settings` are those of `make run` and of all units, in small letters.
    Started again with the same folder it is the same suite at the same address. Raises
    AssertionError when it does not get ready, and, at the end, when it does not exit with 0
    or leaves a process behind. Skips the test where SCOREBOARD_URL names a deployment.
    """
    if URL:
        pytest.skip("nothing is started, since SCOREBOARD_URL names a deployment")
    since = time.monotonic()
    port, log = _port(folder / "port"), folder / "suite.log"
    given = {"port": port, "data_dir": folder / "data", "players": 0, "bcrypt_cost": 4, **settings}
    start_byte = log.stat().st_size if log.exists() else 0
    process = _start(root, log, given)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_ready(process, log, start_byte, f"ready {url}\n")
        yield Suite(
            url=url,
            data_dir=folder / "data",
            admin_file=folder / "data" / "admin.json",
            ready_s=time.monotonic() - since,
            clock_offset_s=float(str(settings.get("clock_offset_s", 0))),
        )
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(STOP_S) == 0, log.read_text()
        left = [member for member in family if member.is_running()]
        for member in left:
            member.kill()
        assert not left, f"left running: {left}"
    finally:
        # All that it started dies with it.
        process.kill()
        process.wait()


def _start(root: Path, log: Path, given: dict[str, object]) -> Popen[bytes]:
    names = {name: f"SCOREBOARD_{name.upper()}" for name in _PREFIXED}
    settings = {names.get(name, name.upper()): str(given[name]) for name in given}
    with log.open("ab") as output:
        return Popen(
            [sys.executable, "-m", "local"],
            cwd=root,
            # No settings and no servers that are given to the tests.
            env=environment(settings),
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=dying_with_parent(SIGTERM),  # noqa: PLW1509  It makes one system call.
        )


def _await_ready(process: Popen[bytes], log: Path, start_byte: int, line: str) -> None:
    until = time.monotonic() + READY_S
    while line.encode() not in (said := log.read_bytes()[start_byte:]):
        assert process.poll() is None, said.decode()
        assert time.monotonic() < until, said.decode()
        time.sleep(0.05)


def _port(kept: Path) -> int:
    """The port in the file `kept`, or a free one that is kept there from now on."""
    if not kept.exists():
        free = next(p for p in random.sample(_PORTS, len(_PORTS)) if not ports.problem(p))
        kept.write_text(str(free))
    return int(kept.read_text())
