"""The seeds' alerts, fired: `python -m tests.alerts_drill [file]`, or `make alerts-drill`.

Starts a suite and Prometheus with the rules as they are, but all durations divided by 20. Provokes
one fault after the other, and waits until its alert fires and, the fault undone, ends. Writes what
happened to the terminal and to the file. Code 1: an alert did not fire, or did not end.
"""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg
import redis.asyncio
import yaml

from deploy.monitoring import scrape
from deploy.monitoring.__main__ import groups
from deploy.monitoring.durations import Durations
from deploy.monitoring.rules import file_of
from deploy.units import UNITS
from local import ports
from scoreboard_client import ApiError, Client
from tests.people import newcomer
from tests.suite import Suite, started

DIVISOR = 20
DURATIONS = Durations(DIVISOR)
FIRES_S, ENDS_S = 120.0, 120.0
PLAYERS = 12
REQUESTS_PER_S = 40
MEMORY_BYTES = 1 << 30  # of Redis, after a fault that changed its bound

Fault = AbstractAsyncContextManager[None]
Watched = Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Drill:
    suite: Suite
    players: Sequence[Client]


def main() -> int:
    lines = [f"alerts-drill {datetime.now(UTC):%Y-%m-%d %H:%MZ}, durations divided by {DIVISOR}"]
    with tempfile.TemporaryDirectory(prefix="sb-drill-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "suite").mkdir()
        with started(folder / "suite", limits="off") as suite, prometheus(folder, suite) as url:
            results = asyncio.run(all_provoked(suite, url))
    lines += [line for line, _ in results]
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join(lines) + "\n")
    return 0 if all(ok for _, ok in results) else 1


async def all_provoked(suite: Suite, url: str) -> list[tuple[str, bool]]:
    """A line for each fault, and whether its alert did as it should."""
    results = []
    async with AsyncExitStack() as stack:
        players = [
            await stack.enter_async_context(newcomer(suite, timeout_s=8)) for _ in range(PLAYERS)
        ]
        watched = await stack.enter_async_context(active(url))
        await stack.enter_async_context(reading(players))
        for alert, fault in FAULTS.items():
            results.append(await provoked(alert, fault(Drill(suite, players)), watched))
            print(results[-1][0], flush=True)
    return results


async def provoked(alert: str, fault: Fault, watched: Watched) -> tuple[str, bool]:
    """One line of what happened, and whether it was as it should be."""
    if not await until(watched, alert, fires=False, timeout_s=ENDS_S):
        return f"{alert}: fired before its fault", False
    since = time.monotonic()
    async with fault:
        if not await until(watched, alert, fires=True, timeout_s=FIRES_S):
            return f"{alert}: did not fire within {FIRES_S:.0f} s", False
        fired_s = time.monotonic() - since
    since = time.monotonic()
    if not await until(watched, alert, fires=False, timeout_s=ENDS_S):
        return f"{alert}: fired after {fired_s:.0f} s and did not end", False
    ended_s = time.monotonic() - since
    return f"{alert}: fired after {fired_s:.0f} s, ended {ended_s:.0f} s after its fault", True


@asynccontextmanager
async def errors(drill: Drill) -> AsyncIterator[None]:
    """Requests fail: a unit that they need stands still."""
    with stopped(drill.suite, "scores"):
        yield


@asynccontextmanager
async def slowness(drill: Drill) -> AsyncIterator[None]:
    """Requests take long: a unit stands still for 0.9 s of each second."""

    async def falter() -> None:
        while True:
            with stopped(drill.suite, "scores"):
                await asyncio.sleep(0.9)
            await asyncio.sleep(0.1)

    async with beside(falter()):
        yield


@asynccontextmanager
async def cheating(drill: Drill) -> AsyncIterator[None]:
    """Players claim actions faster than these can be played."""

    async def cheat(player: Client) -> None:
        while True:
            with suppress(ApiError, TimeoutError, aiohttp.ClientError):
                action = await player.request_action("WIN_GAME")
                await player.complete(action, completion_time_ms=1500)
            await asyncio.sleep(1)

    async with AsyncExitStack() as stack:
        for player in drill.players:
            await stack.enter_async_context(beside(cheat(player)))
        yield


@asynccontextmanager
async def locked(drill: Drill) -> AsyncIterator[None]:
    """Statements wait for a lock on the ledger, each with its connection."""
    connection = await asyncpg.connect(drill.suite.processes()["postgres"]["url"], timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE scores.ledger IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def crammed(drill: Drill) -> AsyncIterator[None]:
    """Redis has hardly more memory than it uses."""
    async with redis.asyncio.Redis.from_url(drill.suite.processes()["redis"]["url"]) as client:
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used * 1.06))
        try:
            yield
        finally:
            await client.config_set("maxmemory", MEMORY_BYTES)


@asynccontextmanager
async def unbounded(drill: Drill) -> AsyncIterator[None]:
    """Redis has no bound of its memory."""
    async with redis.asyncio.Redis.from_url(drill.suite.processes()["redis"]["url"]) as client:
        await client.config_set("maxmemory", 0)
        try:
            yield
        finally:
            await client.config_set("maxmemory", MEMORY_BYTES)


FAULTS: Mapping[str, Callable[[Drill], Fault]] = {
    # First, since it leaves a bound, which the suite starts without.
    "RedisMaxMemoryUnset": unbounded,
    "RedisMemoryNearlyFull": crammed,
    "DatabasePoolNearlyFull": locked,
    "AnomalyScorePattern": cheating,
    "HighResponseTime": slowness,
    "HighErrorRate": errors,
}


@contextmanager
def stopped(suite: Suite, unit: str) -> Iterator[None]:
    """Within it the unit's process stands still."""
    pid = suite.processes()[unit]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def reading(players: Sequence[Client]) -> AsyncIterator[None]:
    """Players read their histories, which Postgres serves, at a steady rate."""

    async def read(player: Client) -> None:
        with suppress(ApiError, TimeoutError, aiohttp.ClientError):
            await player.call("GET", "/me/scores")

    async def all_read() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(read(random.choice(players)))
                await asyncio.sleep(1 / REQUESTS_PER_S)

    async with beside(all_read()):
        yield


@asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Within it the work goes on."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def prometheus(folder: Path, suite: Suite) -> Iterator[str]:
    """The URL of a Prometheus that scrapes the suite."""
    program = shutil.which("prometheus")
    if program is None:
        sys.exit(
            "alerts-drill: this machine has no prometheus (Debian: apt-get install prometheus)"
        )
    processes = suite.processes()
    addresses = {unit: f"127.0.0.1:{processes[unit]['ops_port']}" for unit in UNITS}
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump(file_of(groups(DURATIONS), DURATIONS)))
    configuration = folder / "prometheus.yaml"
    configuration.write_text(
        yaml.safe_dump(scrape.of_addresses(DURATIONS, addresses, rules=str(rules)))
    )
    port = next(port for port in range(20_000, 21_000) if not ports.problem(port))
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@asynccontextmanager
async def active(url: str) -> AsyncIterator[Watched]:
    """A function that returns the alerts that are pending or firing, with their state."""
    async with aiohttp.ClientSession() as session:

        async def look() -> Mapping[str, str]:
            try:
                async with session.get(f"{url}/api/v1/alerts") as answer:
                    alerts = (await answer.json())["data"]["alerts"]
            except aiohttp.ClientError:
                return {}  # It has not started yet.
            return {each["labels"]["alertname"]: each["state"] for each in alerts}

        yield look


async def until(watched: Watched, alert: str, *, fires: bool, timeout_s: float) -> bool:
    """Whether the alert fires, or is not even pending, within that time."""
    state = "firing" if fires else None
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if (await watched()).get(alert) == state:
            return True
        await asyncio.sleep(0.5)
    return False


if __name__ == "__main__":
    sys.exit(main())
