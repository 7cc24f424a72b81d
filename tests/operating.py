"""What an operator does by a unit's own command, on a suite of ours."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

from tests.suite import ROOT, Suite


async def ordered(suite: Suite, unit: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `python -m services.<unit> …`, with that unit's secrets."""
    secrets = suite.folder() / "secrets"
    files = {f"{file.name.upper()}_FILE": str(file) for file in secrets.iterdir()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{unit}", *arguments),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            **files,
            "DATABASE_URL_FILE": str(secrets / f"{unit}_database_url"),
            "CLOCK_OFFSET_S": str(suite.clock_offset_s),
        },
        stdout=PIPE,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()
