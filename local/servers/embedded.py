"""The embedded default: Postgres and Redis as children of this process, for development and tests.

They die with the process that started them, however it ends (on Linux; the
kernel ties a child to the *thread* that started it, so start them from the main
one). As root they run as `postgres` or `nobody`. Their data stays in the
caller's folder even where that account has no way to it, below root's home for
one: each server gets its folder open. (Without /proc, as on macOS, root needs a
folder that the account can reach.)
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from local.servers import binaries
from local.servers.binaries import Unavailable, find_postgres, find_redis
from local.servers.launch import Launch

__all__ = ["Postgres", "Redis", "Unavailable", "find_postgres", "find_redis", "postgres", "redis"]


@dataclass(frozen=True)
class Server:
    """A server that answers at `url` until the block that started it ends."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid


class Postgres(Server):
    """Postgres: the URL is the superuser's, for the database `postgres`."""


class Redis(Server):
    """Valkey or Redis: the URL names database 0."""


@contextmanager
def postgres(
    directory: Path, *, port: int | None, password: str | None, durable: bool
) -> Iterator[Postgres]:
    """Runs Postgres on the cluster `directory`/pg<major version>, made when missing.

    With a port it listens on 127.0.0.1 only and asks for the password, which is
    set when the cluster is made; without one, on a Unix socket that only this
    user reaches. Raises Unavailable.
    """
    with ExitStack() as stack:
        launch = Launch(stack, directory, name="Postgres", variable="DATABASE_URL")
        with launch.explained():
            server = _start_postgres(launch, port=port, password=password, durable=durable)
        yield server


@contextmanager
def redis(
    directory: Path,
    *,
    port: int | None,
    password: str | None,
    durable: bool,
    extra: Sequence[str] = (),
) -> Iterator[Redis]:
    """Runs Valkey or Redis on the data in `directory`/redis; `extra` is added to its command line.

    Listens as `postgres` does; the password counts in both cases. Raises Unavailable.
    """
    with ExitStack() as stack:
        launch = Launch(stack, directory, name="Redis", variable="REDIS_URL")
        with launch.explained():
            server = _start_redis(
                launch, port=port, password=password, durable=durable, extra=extra
            )
        yield server


def _start_postgres(
    launch: Launch, *, port: int | None, password: str | None, durable: bool
) -> Postgres:
    launch.claim()
    folder, version = binaries.reachable_postgres(launch.run)
    cluster = launch.directory / f"pg{version}"
    if not cluster.exists():
        _make_cluster(launch, folder, version, cluster, password=password, durable=durable)
    # We hold the claim, so this is what a killed server left; its number may
    # be another process's by now, and would stop Postgres.
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    if port is not None:
        launch.free(port)
    settings = {
        "max_connections": "200",
        "listen_addresses": "" if port is None else "127.0.0.1",
        "port": str(port or 5432),
        "unix_socket_directories": str(launch.run) if port is None else "",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    command: list[str | Path] = [folder / "postgres", "-D", launch.reach(cluster)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    process = launch.start(command, stop_by=signal.SIGINT)
    launch.wait(process, lambda: _postgres_ready(cluster, process.pid))
    if port is None:
        url = f"postgresql://scoreboard@/postgres?host={quote(str(launch.run))}&port=5432"
    else:
        url = f"postgresql://scoreboard:{_quoted(password)}@127.0.0.1:{port}/postgres"
    return Postgres(url, process)


def _make_cluster(
    launch: Launch,
    folder: Path,
    version: int,
    cluster: Path,
    *,
    password: str | None,
    durable: bool,
) -> None:
    # Made beside its place and renamed, so that an interrupted run leaves no half cluster.
    unfinished = cluster.with_suffix(".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    launch.own_folder(unfinished)
    command: list[str | Path] = [folder / "initdb", "-D", launch.reach(unfinished)]
    command += ["--username=scoreboard", "--auth-local=trust", "--auth-host=scram-sha-256"]
    command += ["--encoding=UTF8", "--no-instructions"]
    if version >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    else:
        command += ["--no-locale"]
    if not durable:
        command += ["--no-sync"]
    if password is not None:
        secret = launch.run / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        binaries.give(secret)
        command += [f"--pwfile={secret}"]
    process = launch.start(command, stop_by=signal.SIGTERM)
    launch.wait(process, lambda: process.poll() == 0)
    unfinished.rename(cluster)


def _postgres_ready(cluster: Path, pid: int) -> bool:
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _start_redis(
    launch: Launch,
    *,
    port: int | None,
    password: str | None,
    durable: bool,
    extra: Sequence[str],
) -> Redis:
    launch.claim()
    binary = binaries.reachable_redis(launch.run)
    data = launch.directory / "redis"
    if not data.exists():
        launch.own_folder(data)
    path = launch.run / "redis.sock"
    # The password is read from standard input: a command line is anybody's to read.
    command: list[str | Path] = [binary, "-", "--save", "", "--maxmemory-policy", "noeviction"]
    command += ["--dir", launch.reach(data), "--appendonly", "yes" if durable else "no"]
    if port is None:
        command += ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
    else:
        launch.free(port)
        command += ["--port", str(port), "--bind", "127.0.0.1"]
    config = "" if password is None else f"requirepass {_in_quotes(password)}\n"
    process = launch.start([*command, *extra], stop_by=signal.SIGTERM, config=config.encode())
    address = str(path) if port is None else ("127.0.0.1", port)
    launch.wait(process, lambda: _redis_ready(address, password, process.pid))
    login = "" if password is None else f":{_quoted(password)}@"
    if port is None:
        return Redis(f"unix://{login}{path}?db=0", process)
    return Redis(f"redis://{login}127.0.0.1:{port}/0", process)


def _redis_ready(address: str | tuple[str, int], password: str | None, pid: int) -> bool:
    login = "" if password is None else f"AUTH {_in_quotes(password)}\r\n"
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with suppress(OSError), closing(socket.socket(family, socket.SOCK_STREAM)) as connection:
        connection.settimeout(1.0)
        connection.connect(address)
        connection.sendall(f"{login}PING\r\nINFO server\r\nQUIT\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        # The number distinguishes ours from another process on that port.
        return b"+PONG\r\n" in answer and b"process_id:%d\r\n" % pid in answer
    return False


def _quoted(password: str | None) -> str:
    return quote(password or "", safe="")


def _in_quotes(text: str) -> str:
    """As one word of Redis' configuration and inline commands."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
