"""The floor: what aiohttp alone costs for a request on this machine.

The targets were set where a bare server answered a small POST for 40 µs of CPU. How much more it
costs here says how much slower this machine is at the moment, which is what targets grow by.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvloop
from aiohttp import web

from bench.connection import BASE, Connection, post
from chassis.rpc.server import freeze_garbage

ROOT = Path(__file__).parent.parent
THERE_US = 40.0  # a request on the machine of the targets
USERS = 64
MEASURED_S = 2.0
_ANSWER = b'{"actionId":"01a1fd01-c252-7cc2-abbe-32c3e171334b","newScore":10}' + b" " * 250
_BODY = b'{"actionType":"BENCH"}'
_HEADERS = {"Host": "localhost", "Authorization": "Bearer " + 630 * "x"}


class Floor:
    """A bare server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = psutil.Process(process.pid)
        self._port = port

    async def request_us(self, seconds: float = MEASURED_S) -> float:
        """CPU of the server for one request, while `USERS` ask without a pause."""
        before_s = self._cpu_s()
        answered = await self._load(seconds)
        return (self._cpu_s() - before_s) / answered * 1e6

    async def _load(self, seconds: float) -> int:
        until_s = time.perf_counter() + seconds
        request = post("/floor", _HEADERS)(_BODY)

        async def ask() -> int:
            connection, answered = Connection("127.0.0.1", self._port), 0
            while time.perf_counter() < until_s:
                await connection.ask(request)
                answered += 1
            connection.close()
            return answered

        return sum(await asyncio.gather(*(ask() for _ in range(USERS))))

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system


@contextmanager
def running() -> Iterator[Floor]:
    """A bare server within the context."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.floor"], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        try:
            port = process.stdout.readline() if process.stdout else b""
            yield Floor(process, int(port))
        finally:
            process.kill()


async def serve() -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=_ANSWER, content_type="application/json")

    app = web.Application()
    app.router.add_post(f"{BASE}/floor", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    freeze_garbage()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
