"""What an operator does by a unit's own command, on a suite of ours."""

import asyncio
import sys
from asyncio.subprocess import PIPE

from local import ports
from local.settings import Settings
from local.suite import processes, units
from tests.suite import ROOT, Suite


async def ordered(suite: Suite, unit: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m services.<unit> …`, with that unit's settings."""
    folder = suite.folder()
    places = units.Places(data_dir=folder, ports=ports.kept(folder / "ports.json"))
    given = units.environment(unit, Settings(data_dir=folder), places)
    given["CLOCK_OFFSET_S"] = str(suite.clock_offset_s)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{unit}", *arguments),
        cwd=ROOT,
        env=processes.environment(given),
        stdout=PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
