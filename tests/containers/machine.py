"""podman, and what containers need beside themselves: the images and the stores of this machine."""

import asyncio
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chassis.testing import eventually
from deploy import files, redis_users
from local.servers import embedded as servers
from local.suite.processes import status

ROOT = Path(__file__).parents[2]
REPOSITORY = "docker.io/scoreboard"
TAG = "test"
UID = 10001
READY_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Podman:
    """The program, with a configuration of the tests."""

    environment: Mapping[str, str]

    def __call__(self, *arguments: str, timeout_s: float = 120, stdin: str = "") -> str:
        """What it prints. Raises AssertionError with its errors where it fails."""
        ended = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
            timeout=timeout_s,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@contextmanager
def stores(folder: Path, made: Path, ports: Mapping[str, int]) -> Iterator[None]:
    """Postgres with an empty database of the owner, and Redis, as the secrets `made` name them.

    Their data is in `folder`, they listen on 127.0.0.1 at the ports `postgres` and `redis`.
    """
    password = (made / "owner" / "password").read_text().strip()
    with ExitStack() as stack:
        database = servers.postgres(folder / "pg", port=ports["postgres"], password=password)
        asyncio.run(_create_database(stack.enter_context(database).url))
        redis = servers.redis(
            folder / "redis",
            port=ports["redis"],
            password=secrets.token_hex(8),  # the tests' own, of the default user
            config=_users(made),
        )
        stack.enter_context(redis)
        yield


def free_ports(*names: str) -> dict[str, int]:
    """A port that is free now for each name."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def await_ready(urls: list[str]) -> None:
    """Returns when each responds with 200. Raises AssertionError after READY_S."""

    async def all_ready() -> bool:
        return all(status(url) == 200 for url in urls)

    asyncio.run(eventually(all_ready, timeout_s=READY_S, pause_s=0.3))


def give(folder: Path) -> None:
    """Makes the user of our containers the owner of all that is there."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)


def _users(made: Path) -> str:
    """The users of Redis that `files` made, without the default one, which the tests use."""
    lines = (made / "redis" / "users.acl").read_text().splitlines(keepends=True)
    ours = [line for line in lines if line.split()[1] in redis_users.UNITS]
    assert len(ours) == len(redis_users.UNITS)
    return "".join(ours)


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(f"CREATE DATABASE {files.OWNER}")
    finally:
        await connection.close()
