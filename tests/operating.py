"""What an operator does by a unit's own command, on a suite of ours."""

import asyncio
import shlex
import sys
from asyncio.subprocess import PIPE

import pytest

from local import ports
from local.settings import Settings
from local.suite import processes, units
from tests.suite import COMMAND, ROOT, URL, Suite


async def ordered(suite: Suite, unit: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m services.<unit> …`, with that unit's settings."""
    if URL:
        return await _printed(*there(unit), *arguments)
    folder = suite.folder()
    places = units.Places(data_dir=folder, ports=ports.kept(folder / "ports.json"))
    given = units.environment(unit, Settings(data_dir=folder), places)
    given["CLOCK_OFFSET_S"] = str(suite.clock_offset_s)
    command = (sys.executable, "-m", f"services.{unit}")
    return await _printed(*command, *arguments, env=processes.environment(given))


def there(unit: str) -> list[str]:
    """The words that run a command of the unit in the deployment that SCOREBOARD_URL names."""
    if COMMAND is None:
        pytest.skip("SCOREBOARD_COMMAND names no way to run a unit's command there")
    return shlex.split(COMMAND.format(unit=unit))


async def _printed(*command: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdout=PIPE)
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
