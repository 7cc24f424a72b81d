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
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy import secrets
from local.servers import binaries
from local.servers.launch import Launch


@dataclass(frozen=True)
class Server:
    """A server that listens at `url` until the block that started it ends."""

    url: str
    process: subprocess.Popen[bytes]


def postgres(
    directory: Path, *, port: int | None = None, password: str = "", durable: bool = False
) -> AbstractContextManager[Server]:
    """Runs Postgres on the cluster `directory`/pg<major version>, made when missing.

    With a port it listens on 127.0.0.1 only and requires the password, which is set
    when the cluster is made; without one, on a Unix socket that only this user reaches.
    The URL is the superuser's, for the database `postgres`. Raises Unavailable.
    """
    start = partial(_start_postgres, port=port, password=password, durable=durable)
    return _running(start, directory, name="Postgres", variable="DATABASE_URL")


def redis(
    directory: Path,
    *,
    port: int | None = None,
    password: str = "",
    durable: bool = False,
    extra: Sequence[str] = (),
    config: str = "",
) -> AbstractContextManager[Server]:
    """Runs Valkey or Redis on the data in `directory`/redis.

    `extra` is added to its command line, `config`, which no other account sees, to its
    configuration. Listens as `postgres` does; the URL names database 0. Raises Unavailable.
    """
    start = partial(
        _start_redis, port=port, password=password, durable=durable, extra=extra, config=config
    )
    return _running(start, directory, name="Redis", variable="REDIS_URL")


@contextmanager
def _running(
    start: Callable[[Launch], Server], directory: Path, *, name: str, variable: str
) -> Iterator[Server]:
    with ExitStack() as stack:
        launch = Launch(stack, directory, name=name, variable=variable)
        try:
            launch.claim()
            server = start(launch)
        except OSError as refusal:
            place = refusal.filename or launch.directory
            raise launch.unavailable(f"{place}: {refusal.strerror}") from refusal
        yield server


def _start_postgres(launch: Launch, *, port: int | None, password: str, durable: bool) -> Server:
    folder, version = binaries.reachable_postgres(launch.run)
    cluster = launch.directory / f"pg{version}"
    if not cluster.exists():
        _make_cluster(launch, folder, version, cluster, password=password, durable=durable)
    # We hold the claim, so this is what a killed server left; its number may
    # be another process's by now, and would stop Postgres.
    (cluster / "postmaster.pid").unlink(missing_ok=True)
    settings = {"max_connections": "200", "port": str(port or 5432)}
    if port is None:
        settings |= {"listen_addresses": "", "unix_socket_directories": str(launch.run)}
        url = f"postgresql://scoreboard@/postgres?host={quote(str(launch.run))}&port=5432"
    else:
        launch.expect_free(port)
        settings |= {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        url = f"postgresql://scoreboard:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    command: list[str | Path] = [folder / "postgres", "-D", launch.reach(cluster)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    process = launch.start(command, stop_by=signal.SIGINT)
    launch.wait(process, lambda: _postgres_ready(cluster, process.pid))
    return Server(url, process)


def _make_cluster(
    launch: Launch, folder: Path, version: int, cluster: Path, *, password: str, durable: bool
) -> None:
    # Made beside its place and renamed, so that an interrupted run leaves no half cluster.
    unfinished = cluster.with_suffix(".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    binaries.make_folder(unfinished)
    command: list[str | Path] = [folder / "initdb", "-D", launch.reach(unfinished)]
    command += ["--username=scoreboard", "--auth-local=trust", "--auth-host=scram-sha-256"]
    command += ["--encoding=UTF8", "--no-instructions"]
    if version >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    else:
        command += ["--no-locale"]
    if not durable:
        command += ["--no-sync"]
    if password:
        secrets.write(launch.run / "password", password)
        binaries.give(launch.run / "password")
        command += [f"--pwfile={launch.run / 'password'}"]
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
    password: str,
    durable: bool,
    extra: Sequence[str],
    config: str,
) -> Server:
    binary = binaries.reachable_redis(launch.run)
    data = launch.directory / "redis"
    if not data.exists():
        binaries.make_folder(data)
    command: list[str | Path] = [binary, "-", "--save", "", "--maxmemory-policy", "noeviction"]
    command += ["--dir", launch.reach(data), "--appendonly", "yes" if durable else "no"]
    if port is None:
        path = launch.run / "redis.sock"
        command += ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700"]
        url = f"unix://{path}?db=0"
    else:
        launch.expect_free(port)
        command += ["--port", str(port), "--bind", "127.0.0.1"]
        url = f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"
        # Read from standard input, since every account can read a command line.
        escaped = password.replace("\\", "\\\\").replace('"', '\\"')
        config += f'requirepass "{escaped}"\n'
    process = launch.start([*command, *extra], stop_by=signal.SIGTERM, config=config)
    launch.wait(process, lambda: _redis_ready(url, process.pid))
    return Server(url, process)


def _redis_ready(url: str, pid: int) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
            # The number distinguishes ours from another process on that port.
            return bool(client.ping()) and client.info("server")["process_id"] == pid
    except RedisError:
        return False
