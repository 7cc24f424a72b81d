"""What an operator does by a unit's own command, on a suite of ours."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

from tests.suite import ROOT, Suite


async def ordered(suite: Suite, unit: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m local <unit> …`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local", unit, *arguments),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "SCOREBOARD_DATA_DIR": str(suite.folder()),
            "CLOCK_OFFSET_S": str(suite.clock_offset_s),
        },
        stdout=PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
