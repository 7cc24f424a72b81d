"""What a call to Redis costs its caller: redis-py beside the chassis' shared connection, in turns.

`python -m bench.redis_client URL` measures against the Redis at URL, whose key `bench` it uses.
"""

import argparse
import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import redis.asyncio
import uvloop

from bench.report import code, processor
from chassis.redis import Redis, Script, open_redis

RESULTS = Path(__file__).parent / "results"
KEY, FIELDS, VALUE = "bench", ("a", "b"), b"x" * 200
PIPELINED = 64
TEXT = "return redis.call('HMGET', KEYS[1], ARGV[1], ARGV[2])"

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """One kind of call by each client; `items` of them in one call of `work`."""

    title: str
    items: int
    callers: int
    client: str
    work: Work
    client_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="a Redis to measure against")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each case in a round")
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results")
    arguments = parser.parse_args()
    text = uvloop.run(measure(arguments.url, rounds=arguments.rounds, seconds=arguments.seconds))
    print(text, end="")
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"redis-client-{datetime.now(UTC):%Y-%m-%dT%H%MZ}.txt"
        path.write_text(text)


async def measure(url: str, *, rounds: int, seconds: float) -> str:
    """The report. Raises RedisError."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=16)
    plain = redis.asyncio.Redis(connection_pool=pool)
    async with open_redis(url) as shared:
        await shared.hset(KEY, mapping=dict.fromkeys(FIELDS, VALUE))
        cases = _cases(plain, shared)
        for case in cases:
            await _round(case, shared, seconds / 5)
        for _ in range(rounds):
            for case in cases:
                used_us = await _round(case, shared, seconds)
                case.client_us.append(used_us[0])
                case.server_us.append(used_us[1])
        about: dict[str, Any] = await shared.info("server")
        await shared.delete(KEY)
    await plain.aclose()
    await pool.aclose()
    return "\n".join([*_head(about, rounds, seconds), "", *_table(cases), ""])


def _cases(plain: "redis.asyncio.Redis", shared: Redis) -> list[Case]:
    script, plain_script = Script(shared, TEXT, name="measured"), plain.register_script(TEXT)
    commands = [("HSET", KEY, "a", VALUE)] * PIPELINED

    async def piped(client: "redis.asyncio.Redis") -> None:
        pipe = client.pipeline(transaction=False)
        for _ in range(PIPELINED):
            pipe.hset(KEY, "a", VALUE)
        await pipe.execute()

    async def scripts_piped() -> None:
        pipe = plain.pipeline(transaction=False)
        for _ in range(PIPELINED):
            pipe.evalsha(plain_script.sha, 1, KEY, *FIELDS)
        await pipe.execute()

    cases = []
    for callers in (1, 8, 64):
        for name, client in (("redis-py", plain), ("shared", shared)):
            work = partial(client.hmget, KEY, FIELDS)
            cases.append(Case("HMGET", 1, callers, name, work))
        cases.append(Case("script", 1, callers, "redis-py", partial(plain_script, [KEY], FIELDS)))
        cases.append(Case("script", 1, callers, "shared", partial(script, [KEY], FIELDS)))
    calls = [([KEY], FIELDS)] * PIPELINED
    return [
        *cases,
        Case("HSET, pipeline()", PIPELINED, 1, "redis-py", partial(piped, plain)),
        Case("HSET, pipeline()", PIPELINED, 1, "shared", partial(piped, shared)),
        Case("HSET, execute_many", PIPELINED, 1, "shared", partial(shared.execute_many, commands)),
        Case("scripts", PIPELINED, 1, "redis-py", scripts_piped),
        Case("scripts, many", PIPELINED, 1, "shared", partial(script.many, calls)),
    ]


async def _round(case: Case, shared: Redis, seconds: float) -> tuple[float, float]:
    """The CPU of client and server for one item, in microseconds."""
    until = time.monotonic() + seconds

    async def call() -> int:
        made = 0
        while time.monotonic() < until:
            await case.work()
            made += 1
        return made

    server_s, client_s = await _server_s(shared), time.process_time()
    made = sum(await asyncio.gather(*(call() for _ in range(case.callers))))
    client_s = time.process_time() - client_s
    server_s = await _server_s(shared) - server_s
    items = made * case.items
    return client_s / items * 1e6, server_s / items * 1e6


async def _server_s(shared: Redis) -> float:
    about: dict[str, Any] = await shared.info("cpu")
    return float(about["used_cpu_user"]) + float(about["used_cpu_sys"])


def _head(about: dict[str, Any], rounds: int, seconds: float) -> list[str]:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("redis", "hiredis", "uvloop"))
    server = about.get("valkey_version") or about["redis_version"]
    return [
        "CPU of a call to Redis; a closed loop of callers in one process.",
        f"{rounds} rounds of {seconds:g} s for each line, in turns.",
        "",
        f"date      {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"command   python -m bench.redis_client URL --rounds {rounds} --seconds {seconds:g}",
        f"code      {code()}",
        f"machine   {processor()}, {psutil.cpu_count()} cores, Python {platform.python_version()}",
        f"versions  {libraries}, server {server}",
    ]


def _table(cases: Sequence[Case]) -> list[str]:
    head = f"{'µs of CPU for one item':34}{'client':>16}{'server':>16}"
    return [
        head,
        f"{'':34}{'min':>8}{'median':>8}{'min':>8}{'median':>8}",
        *(
            f"{case.title:20}{_how(case):6}{case.client:8}"
            + "".join(
                f"{figure:8.1f}"
                for used in (case.client_us, case.server_us)
                for figure in (min(used), median(used))
            )
            for case in cases
        ),
    ]


def _how(case: Case) -> str:
    return f"x{case.items}" if case.items > 1 else f"by {case.callers}"


if __name__ == "__main__":
    main()
