"""Deaths of a suite's processes: killed, frozen first, or robbed of their data; and the return."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from signal import SIGKILL

import psutil
from redis.asyncio import Redis

from chassis.testing import eventually
from local.suite import processes
from tests import books
from tests.suite import Suite

BACK_S = 30.0
_PAUSED_MS = 2_000


async def killed(suite: Suite, name: str) -> float:
    """Kills a process; returns after how many seconds the one that follows it was ready."""
    since, pid = time.monotonic(), suite.processes()[name]["pid"]
    os.kill(pid, SIGKILL)
    await _followed(suite, name, pid)
    return time.monotonic() - since


async def frozen(suite: Suite, name: str, *, meanwhile: Callable[[], Awaitable[None]]) -> float:
    """Stops a process and its children where they stand, and kills them after `meanwhile`.

    As long as they are frozen, callers get no reply, not even a refusal.
    """
    since, pid = time.monotonic(), suite.processes()[name]["pid"]
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.suspend()
    try:
        await meanwhile()
    finally:
        for member in reversed(family):
            with suppress(psutil.NoSuchProcess):
                member.kill()
    await _followed(suite, name, pid)
    return time.monotonic() - since


async def robbed(suite: Suite) -> float:
    """Kills Redis and takes its data, at a moment when no award waits there for Postgres."""
    record = suite.processes()["redis"]
    async with Redis.from_url(record["url"]) as redis:
        await eventually(lambda: _still(redis), timeout_s=BACK_S)
        since = time.monotonic()
        # What is frozen writes no more, so that nothing of the data comes back.
        psutil.Process(record["pid"]).suspend()
        for path in (suite.folder() / "redis").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.kill(record["pid"], SIGKILL)
    await _followed(suite, "redis", record["pid"])
    return time.monotonic() - since


async def _still(redis: Redis) -> bool:
    """Whether nothing waits in the journal, and nothing can begin to for some time."""
    await redis.client_pause(_PAUSED_MS, all=False)
    if await books.journalled(redis) == 0:
        return True
    await redis.client_unpause()
    return False


async def _followed(suite: Suite, name: str, pid: int) -> None:
    """Returns when another process of that name does its work."""

    async def back() -> bool:
        now = suite.processes().get(name)
        if now is None or now["pid"] == pid:
            return False
        if "ops_port" not in now:  # of a server that is recorded once it is ready
            return True
        url = f"http://127.0.0.1:{now['ops_port']}/readyz"
        return await asyncio.to_thread(processes.status, url) == 200

    await eventually(back, timeout_s=BACK_S, pause_s=0.1)
