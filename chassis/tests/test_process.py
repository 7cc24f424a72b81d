"""A process's background work: there as long as its context, and never silently ended."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from chassis.process import background, repeat


def test_a_process_requests_all_the_open_files_it_may_have() -> None:
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 4096));"
        "from chassis.process import allow_open_files; allow_open_files();"
        "print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60
    )
    assert answer.stdout == "(4096, 4096)\n"


def test_a_process_that_crashes_says_so_in_a_line_like_any_other(tmp_path: Path) -> None:
    code = (
        "from chassis.process import run; from chassis.settings import ProcessSettings\n"
        "async def main(settings): raise ValueError('no such thing')\n"
        "run('unit-x', ProcessSettings, main)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={"TLS_DIR": str(tmp_path), "OTLP_ENDPOINT": "http://127.0.0.1:1"},
    )
    line = json.loads(ended.stdout)
    assert (line["event"], line["stream"], line["unit"]) == ("process_crashed", "error", "unit-x")
    assert line["error"] == "ValueError('no such thing')"
    assert (ended.returncode, ended.stderr) == (1, "")


def process_that(main: str, folder: Path) -> subprocess.Popen[str]:
    """A process of a unit whose `main` is this."""
    code = f"""
import asyncio
from chassis.process import background, run, stop_signal
from chassis.settings import ProcessSettings
from chassis.telemetry import log

async def main(settings):
{textwrap.indent(textwrap.dedent(main), "    ")}

run("auth", ProcessSettings, main)
"""
    environment = {**os.environ, "TLS_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )


def event(process: subprocess.Popen[str]) -> str:
    """The event that a process logs next; waits for it."""
    assert process.stdout is not None
    return str(json.loads(process.stdout.readline())["event"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_during_the_start_closes_what_was_opened(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = process_that(
        """
        async with background(asyncio.Event().wait()):
            try:
                log.info("peer_awaited")
                await asyncio.Event().wait()
            finally:
                log.info("closed")
        """,
        tmp_path,
    )
    with process:
        assert event(process) == "peer_awaited"
        process.send_signal(number)
        assert [event(process) for _ in range(3)] == ["start_abandoned", "closed", "stopped"]
        assert process.wait(10) == 0


def test_the_second_signal_ends_a_process_at_once(tmp_path: Path) -> None:
    process = process_that(
        """
        stop = stop_signal()
        log.info("ready")
        await stop.wait()
        log.info("draining")
        await asyncio.Event().wait()
        """,
        tmp_path,
    )
    with process:
        assert event(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert event(process) == "draining"
        process.send_signal(signal.SIGTERM)
        # By a handler, since the first process of a container has no default action.
        assert process.wait(10) == 128 + signal.SIGTERM


async def test_background_work_ends_with_its_context_even_if_it_loses_a_cancellation() -> None:
    lost = asyncio.Event()

    async def stubborn() -> None:
        while not lost.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost.set()  # as a client library may do
        await asyncio.sleep(60)

    async with asyncio.timeout(5), background(stubborn()):
        await asyncio.sleep(0)
    assert lost.is_set()


async def test_background_work_that_fails_ends_its_context() -> None:
    async def failing() -> None:
        raise ValueError("beyond repair")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="beyond repair")):
        async with asyncio.timeout(5), background(failing()):
            await asyncio.sleep(60)


async def test_a_failure_within_the_context_leaves_it_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with background(asyncio.sleep(60)):
            raise ValueError("mine")


async def test_repeated_work_goes_on_after_it_failed() -> None:
    calls = 0
    enough = asyncio.Event()

    async def work() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            enough.set()
        raise ValueError("once more")

    async with asyncio.timeout(5), background(repeat(work, pause_s=0.001)):
        await enough.wait()
