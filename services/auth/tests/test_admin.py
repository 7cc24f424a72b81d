"""The command that makes administrators, run as operators run it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from chassis import clock
from chassis.errors import Unauthenticated
from services.auth.settings import MINUTE_S
from services.auth.tests.auth_served import PASSWORD, Auth

PEPPER = "1:" + "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA"  # what ring("p") holds
OTHER = "another harbour, at dusk"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(OTHER + "\n")
    return path


async def create(database: dict[str, str], username: str, path: Path) -> tuple[int, str, str]:
    """The exit code and what was written to stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.auth", "admin", "create"),
        *("--username", username, "--password-file", str(path)),
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": database["auth"],
            "PEPPER": PEPPER,
            "SCOREBOARD_BCRYPT_COST": "4",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


async def test_an_administrator_is_made_once_and_logs_in_for_a_shorter_time(
    auth: Auth, database: dict[str, str], password_file: Path
) -> None:
    code, stdout, stderr = await create(database, "root-admin", password_file)
    assert (code, stdout) == (0, "root-admin was made, an administrator\n")
    line = json.loads(stderr)
    assert (line["event"], line["stream"], line["unit"]) == ("command_run", "audit", "auth")
    assert (line["command"], line["username"]) == ("admin create", "root-admin")
    assert OTHER not in stderr
    code, stdout, _ = await create(database, "Root-Admin", password_file)
    assert (code, stdout) == (0, "root-admin is an administrator already\n")

    session = await auth.login("root-admin", OTHER)

    claims = await auth.claims(session)
    assert claims["roles"] == ["player", "admin"]
    assert "catalogue:write" in str(claims["scope"])
    assert session.expires_in_s == 5 * MINUTE_S
    with clock.ahead(31 * MINUTE_S), pytest.raises(Unauthenticated, match="REFRESH_EXPIRED"):
        await auth.refresh(session.refresh_token)


async def test_a_player_is_made_an_administrator_and_keeps_the_password(
    auth: Auth, database: dict[str, str], password_file: Path
) -> None:
    await auth.register("ada")

    code, _, _ = await create(database, "ada", password_file)

    assert code == 0
    session = await auth.login("ada", PASSWORD)
    assert (await auth.claims(session))["roles"] == ["player", "admin"]
    with pytest.raises(Unauthenticated):
        await auth.login("ada", OTHER)


async def test_an_unfit_password_makes_no_administrator_and_says_why(
    auth: Auth, database: dict[str, str], tmp_path: Path
) -> None:
    weak = tmp_path / "weak"
    weak.write_text("password")

    code, _, stderr = await create(database, "root-admin", weak)

    assert code == 1
    assert "password: This password is among the first to be tried." in stderr
    code, _, stderr = await create(database, "root-admin", tmp_path / "missing")
    assert code == 1
    assert "missing" in stderr
    assert "Traceback" not in stderr
    with pytest.raises(Unauthenticated):
        await auth.login("root-admin", "password")
