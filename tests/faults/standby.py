"""A Postgres and its streaming standby, for tests of replicas and of failovers."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from local.servers import binaries
from local.servers import embedded as servers

Missing = Callable[[str], NoReturn]  # the fixture `missing`
Pair = tuple[servers.Server, servers.Server]


@contextmanager
def primary_and_standby(missing: Missing) -> Iterator[Pair]:
    """Calls `missing` where Postgres comes without pg_basebackup."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-")))
        binaries.give(folder)
        programs, version = binaries.reachable_postgres(folder)
        if not (programs / "pg_basebackup").exists():
            missing("pg_basebackup")
        primary = stack.enter_context(servers.postgres(folder / "primary"))
        standby = folder / "standby"
        standby.mkdir(mode=0o700)
        binaries.give(standby)
        command: list[str | Path] = [programs / "pg_basebackup", "-d", primary.url, "-D"]
        command += [standby / f"pg{version}", "-R", "-X", "stream", "-c", "fast"]
        subprocess.run(command, check=True, cwd="/", **binaries.run_as())
        yield primary, stack.enter_context(servers.postgres(standby))
