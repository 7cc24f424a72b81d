"""A process's background work: there as long as its context, and never silently ended."""

import asyncio
import json
import subprocess
import sys
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
