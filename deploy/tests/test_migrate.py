"""The command that brings schemas up to date, and the one that waits for it."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from deploy.databases import UNITS, as_user

ROOT = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def waiting(url: str) -> Iterator[subprocess.Popen[str]]:
    """The init container of fraud, once it waits."""
    command = [sys.executable, "-m", "chassis.postgres", "services/fraud/migrations"]
    with subprocess.Popen(
        command, cwd=ROOT, env={"DATABASE_URL": url}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert any("schema_awaited" in line for line in process.stdout)
            yield process
        finally:
            process.kill()


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    """A file for each service, with the URL it will have."""
    for unit in UNITS:
        (tmp_path / unit).write_text(f"postgresql://{unit}:test@postgres:5432/scoreboard\n")
    return tmp_path


async def test_migrate_makes_roles_and_schemas_of_an_empty_database(
    new_database: Callable[[], Awaitable[str]], roles: Path
) -> None:
    url = await new_database()

    first = run("deploy", "migrate", DATABASE_URL=url, ROLES_DIR=str(roles))
    again = run("deploy", "migrate", DATABASE_URL=url, ROLES_DIR=str(roles))

    assert (first.returncode, first.stderr) == (0, "")
    assert again.stdout == first.stdout
    assert [line.split()[0] for line in first.stdout.splitlines()] == list(UNITS)
    for unit in UNITS:
        connection = await asyncpg.connect(as_user(url, unit, "test"))
        assert await connection.fetchval(f"SELECT max(number) FROM {unit}.migrations") > 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"CREATE TABLE {unit}.more ()")
        await connection.close()


async def test_what_trying_again_cannot_help_ends_with_its_own_code(
    new_database: Callable[[], Awaitable[str]], roles: Path
) -> None:
    url = await new_database()
    assert run("deploy", "migrate", DATABASE_URL=url, ROLES_DIR=str(roles)).returncode == 0
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE auth.migrations SET sha256 = 'other'")
    await connection.close()

    refused = run("deploy", "migrate", DATABASE_URL=url)

    assert refused.returncode == 42
    assert "was changed after it had been applied" in refused.stderr


def test_migrate_names_what_it_lacks() -> None:
    refused = run("deploy", "migrate")
    assert refused.returncode == 1
    assert "DATABASE_URL: is required" in refused.stderr


async def test_an_init_container_waits_for_the_schema(
    new_database: Callable[[], Awaitable[str]], roles: Path
) -> None:
    url = await new_database()
    with waiting(url) as process:
        assert process.stdout is not None
        assert process.poll() is None
        assert run("deploy", "migrate", DATABASE_URL=url, ROLES_DIR=str(roles)).returncode == 0

        rest = process.stdout.read()
        assert process.wait(timeout=30) == 0
    assert "schema_found" in rest.splitlines()[-1]


async def test_an_init_container_waits_for_its_role_and_for_its_rights(
    new_database: Callable[[], Awaitable[str]], roles: Path
) -> None:
    url = await new_database()
    # The servers' roles are there for all tests, so this one has another name.
    role = f"late_{secrets.token_hex(6)}"
    owner = await asyncpg.connect(url)
    try:
        with waiting(as_user(url, role, "test")) as process:
            assert process.stdout is not None
            await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
            assert run("deploy", "migrate", DATABASE_URL=url, ROLES_DIR=str(roles)).returncode == 0
            assert any("permission denied" in line for line in process.stdout)
            await owner.execute(f"GRANT fraud TO {role}")

            assert "schema_found" in process.stdout.read().splitlines()[-1]
            assert process.wait(timeout=30) == 0
    finally:
        await owner.execute(f"DROP ROLE IF EXISTS {role}")
        await owner.close()


async def test_an_init_container_ends_at_once_when_its_pod_goes(
    new_database: Callable[[], Awaitable[str]],
) -> None:
    url = await new_database()
    with waiting(url) as process:
        process.terminate()
        assert process.wait(timeout=10) == 128 + signal.SIGTERM
