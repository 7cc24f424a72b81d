"""A suite of one's own to measure: its start and end, what its processes use, its books."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from bench.connection import Connection, post

SERVERS = ("gateway", "auth", "actions", "scores", "fraud", "realtime", "postgres", "redis")
ACTION_TYPE, POINTS = "BENCH", 10

_ACTION_TYPE = {
    "actionType": ACTION_TYPE,
    "title": "Measurement",
    "points": POINTS,
    "minDurationMs": 0,
    "maxDurationMs": 60_000,
    "tokenTtlS": 300,
    "maxOpen": 1_000_000,
}
ROOT = Path(__file__).parent.parent
_START_S = 180.0
_STOP_S = 60.0
_SETTLE_S = 30.0
_POLL_S = 0.1
_ASK_S = 10.0
# What a suite may know of the environment; above all no servers of another one's.
_INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE")

NO_SETTINGS: Mapping[str, str] = {}

Sizes = dict[str, tuple[float, float]]


class Broken(Exception):
    """The measurement cannot go on; one line says why."""


@dataclass(frozen=True, kw_only=True)
class Books:
    """What the ledger holds."""

    rows: int
    points: int
    totals: int  # the sum of all players' scores


class Stack:
    """A suite that runs; `name` is what it is called in the report."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._known: Mapping[str, Any] = self._record()
        self._processes = {unit: psutil.Process(self._known[unit]["pid"]) for unit in SERVERS}

    @property
    def url(self) -> str:
        """The public address."""
        return str(self._known["url"])

    @property
    def postgres_url(self) -> str:
        """The database, as its superuser."""
        return str(self._known["postgres"]["url"])

    @property
    def redis_url(self) -> str:
        """Redis, as who may do everything."""
        return str(self._known["redis"]["url"])

    def cpu_s(self) -> dict[str, float]:
        """What each server has used, its children's among it. Raises Broken if one is new."""
        if self._record() != self._known:
            raise Broken(f"{self.name}: a process died and was started again")
        return {unit: _cpu_s(process) for unit, process in self._processes.items()}

    def flights(self) -> Sizes:
        """Of each batcher, as `unit name`: items carried so far, and in how many flights."""
        sizes: Sizes = {}
        for unit in SERVERS:
            port = self._known[unit].get("ops_port")
            for family in text_string_to_metric_families(_metrics(port)) if port else ():
                if family.name == "batch_items":
                    values = {(s.labels["name"], s.name): s.value for s in family.samples}
                    for name in {name for name, _ in values}:
                        items, count = (values[name, f"batch_items_{x}"] for x in ("sum", "count"))
                        sizes[f"{unit} {name}"] = (items, count)
        return sizes

    async def make_action_type(self) -> None:
        """By an administrator's call: no minimum duration, as many open tokens as one likes."""
        account = json.loads((self._folder / "admin.json").read_text())
        place = urlsplit(self.url)
        headers = {"Host": place.netloc}
        connection = Connection(place.hostname or "", place.port or 80)

        async def ask(path: str, body: object) -> Any:
            status, answer = await connection.ask(post(path, headers)(json.dumps(body).encode()))
            if status not in (200, 201):
                raise Broken(f"{path}: {answer.decode()}")
            return json.loads(answer)

        entered = await ask("/auth/login", account)
        headers["Authorization"] = f"Bearer {entered['accessToken']}"
        await ask("/admin/action-types", _ACTION_TYPE)
        connection.close()

    async def settled(self) -> None:
        """Returns when all that follows the answers given is done. Raises Broken."""
        until_s = time.monotonic() + _SETTLE_S
        connection = await asyncpg.connect(self._known["postgres"]["url"], timeout=_ASK_S)
        try:
            while await connection.fetchval("SELECT count(*) FROM scores.outbox"):
                if time.monotonic() > until_s:
                    raise Broken(f"{self.name}: awards stay in the outbox")
                await asyncio.sleep(_POLL_S)
        finally:
            await connection.close()

    async def books(self) -> Books:
        """The ledger's sums."""
        connection = await asyncpg.connect(self._known["postgres"]["url"], timeout=_ASK_S)
        try:
            ask = connection.fetchval
            return Books(
                rows=await ask("SELECT count(*) FROM scores.ledger"),
                points=await ask("SELECT coalesce(sum(points), 0)::bigint FROM scores.ledger"),
                totals=await ask("SELECT coalesce(sum(total), 0)::bigint FROM scores.players"),
            )
        finally:
            await connection.close()

    async def versions(self) -> dict[str, str]:
        """Of the two servers."""
        connection = await asyncpg.connect(self._known["postgres"]["url"], timeout=_ASK_S)
        try:
            postgres = await connection.fetchval("SHOW server_version")
        finally:
            await connection.close()
        async with Redis.from_url(self._known["redis"]["url"], socket_timeout=_ASK_S) as redis:
            about = await redis.info("server")
        kind = "valkey" if "valkey_version" in about else "redis"
        return {"postgres": postgres, kind: about[f"{kind}_version"]}

    def _record(self) -> Mapping[str, Any]:
        known: Mapping[str, Any] = json.loads((self._folder / "processes.json").read_text())
        return known


@contextmanager
def running(
    name: str, *, batch_max: int, root: Path = ROOT, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[Stack]:
    """A suite of the tree `root` with fresh data, thresholds disabled, within the context.

    `settings` are further ones of its processes. Raises Broken.
    """
    with TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place)
        log = folder / "suite.log"
        environment = {
            "SCOREBOARD_PORT": str(_free_port()),
            "SCOREBOARD_DATA_DIR": str(folder),
            "SCOREBOARD_PLAYERS": "0",
            "SCOREBOARD_LIMITS": "off",
            "SCOREBOARD_BCRYPT_COST": "4",
            "BATCH_MAX": str(batch_max),
            **settings,
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "local"],
                cwd=root,
                env={**{n: os.environ[n] for n in _INHERITED if n in os.environ}, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A Ctrl-C is for us alone, who stop the suite.
                start_new_session=True,
            )
        try:
            _until_ready(name, process, log)
            yield Stack(name, folder)
        finally:
            _stop(process)


def _until_ready(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + _START_S
    while not re.search("^ready ", said := log.read_text(), re.MULTILINE):
        if process.poll() is not None or time.monotonic() > until_s:
            raise Broken(f"{name} does not start: {' / '.join(said.splitlines()[-3:])}")
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cpu_s(process: psutil.Process) -> float:
    """A process and all its children, those that have ended among them."""
    used_s = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue  # It ended just now: its parent counts it.
        used_s += times.user + times.system + times.children_user + times.children_system
    return used_s


def _metrics(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=_ASK_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
