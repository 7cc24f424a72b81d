"""The first administrator: made once, by the command that makes administrators anywhere."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

from deploy import secrets
from local.servers.launch import dying_with_parent
from local.suite.processes import ROOT, environment
from local.suite.supervisor import Refused

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Admin:
    """The account, and whether it was made just now."""

    username: str
    password: str
    is_new: bool


def ensure(path: Path, *, given: Mapping[str, str], again: bool) -> Admin:
    """The administrator whose name and password are kept in `path`, made where it is missing.

    `given` is the environment of auth's command. `again`: run it also where `path` is there,
    for a database that is not the one it was made in. Raises Refused, OSError.
    """
    if path.exists():
        admin = _read(path, is_new=False)
        if again:
            _create(admin, given, folder=path.parent)
        return admin
    # The name is final once the account is there: the next start completes an interrupted one.
    wanted = path.with_name(f"{path.name}.wanted")
    if not wanted.exists():
        account = {"username": "admin", "password": secrets.password()}
        secrets.write(wanted, json.dumps(account, indent=2) + "\n")
    admin = _read(wanted, is_new=True)
    _create(admin, given, folder=path.parent)
    wanted.replace(path)
    return admin


def _create(admin: Admin, given: Mapping[str, str], *, folder: Path) -> None:
    password_file = folder / "admin.json.password"
    secrets.write(password_file, admin.password)
    command = ["-m", "services.auth", "admin", "create", "--username", admin.username]
    try:
        subprocess.run(
            [sys.executable, *command, "--password-file", password_file],
            cwd=ROOT,
            env=environment(given),
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            start_new_session=True,
            preexec_fn=dying_with_parent(SIGKILL),
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"the administrator was not made within {_TIMEOUT_S:g} s") from None
    except subprocess.CalledProcessError as failed:
        said = " ".join(failed.stderr.split("\n")[-2:]).strip()
        raise Refused(f"the administrator could not be made: {said}") from None
    finally:
        password_file.unlink()


def _read(path: Path, *, is_new: bool) -> Admin:
    try:
        account = json.loads(path.read_text())
        return Admin(account["username"], account["password"], is_new)
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{path}: is not what was written there; remove it") from None
