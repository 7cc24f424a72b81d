"""What reading a board costs as its players grow, and whether it is right: `python -m bench.board`.

A suite of its own gets players by SQL; its scores rebuilds the boards from there. Then the
first entries and a thousand players' places are compared with what SQL says, and each kind
of read is asked for by users without a pause.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
import uvloop
from redis.asyncio import Redis

from bench import floor, stack
from bench.connection import BASE, Connection
from bench.floor import THERE_US, Floor
from bench.report import code, processor
from bench.stack import SERVERS, Broken, Stack

RESULTS = Path(__file__).parent / "results"
RADIUS, TOP = 5, 100
_REBUILT_S = 1800.0
_SQL_S = 900.0

Place = tuple[int, str, int]  # position, player, score


@dataclass(frozen=True, kw_only=True)
class Read:
    """One kind of read under load."""

    title: str
    answered: int
    elapsed_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]  # of each server, for one read


@dataclass(frozen=True, kw_only=True)
class Size:
    """What was found of a board of so many players."""

    players: int
    rebuilt_s: float
    entry_bytes: float  # of a player on the board, in Redis
    name_bytes: float  # of a player's name
    samples: int
    reads: Sequence[Read]
    floor_us: float  # of a bare aiohttp server, for one request


def main() -> None:
    arguments = _arguments()
    started = datetime.now(UTC)
    with floor.running() as bare, stack.running("the suite", batch_max=256) as suite:
        sizes = uvloop.run(measure(suite, bare, arguments))
    text = "\n".join([*_head(started), "", *_table(sizes), "", *_goals(sizes), ""])
    print(text, end="")
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"board-{started:%Y-%m-%dT%H%MZ}.txt").write_text(text)


async def measure(suite: Stack, bare: Floor, arguments: argparse.Namespace) -> list[Size]:
    """One size after the other. Raises Broken for an answer that is not what SQL says."""
    database = await asyncpg.connect(suite.postgres_url, command_timeout=_SQL_S)
    sizes = []
    async with Redis.from_url(suite.redis_url) as redis:
        for players in sorted(arguments.players):
            _say(f"{players:,} players…")
            await _fill(database, players)
            began = time.monotonic()
            await redis.flushall()
            await _rebuilt(suite, players)
            rebuilt_s = time.monotonic() - began
            places = await _compare(suite, database, players, arguments.samples)
            entry_bytes, name_bytes = await _sizes(redis, players)
            await _settled(database, redis)
            reads = [
                await _read(suite, title, request, arguments.users, arguments.seconds)
                for title, request in (await _requests(suite, places)).items()
            ]
            sizes.append(
                Size(
                    players=players,
                    rebuilt_s=rebuilt_s,
                    entry_bytes=entry_bytes,
                    name_bytes=name_bytes,
                    samples=len(places),
                    reads=reads,
                    floor_us=await bare.request_us(),
                )
            )
    await database.close()
    return sizes


async def _fill(database: asyncpg.Connection, players: int) -> None:
    """Ten players or so have each score, reached in an order that is not that of their ids."""
    await database.execute("TRUNCATE scores.players")
    await database.execute(
        """
        INSERT INTO scores.players (user_id, username, name_version, version, total, reached_seq,
                                    reached_at)
        SELECT md5('bench' || i)::uuid, 'player-' || i, 1, 1, 1 + (i * 7919) % ($1 / 10),
               256 * ((i * 104729) % $1) + i % 256, now()
        FROM generate_series(1::bigint, $1) AS i
        """,
        players,
    )
    await database.execute("ANALYZE scores.players")
    await database.execute("DROP TABLE IF EXISTS bench_places")
    await database.execute(
        """
        CREATE TABLE bench_places AS
        SELECT row_number() OVER (ORDER BY total DESC, reached_seq) AS position,
               user_id::text AS user_id, total
        FROM scores.players
        """
    )
    await database.execute("ALTER TABLE bench_places ADD PRIMARY KEY (position)")


async def _rebuilt(suite: Stack, players: int) -> None:
    ask = _asker(suite)
    until = time.monotonic() + _REBUILT_S
    while time.monotonic() < until:
        _, found = await ask("/leaderboards/all_time/would-be?score=0")
        if found.get("degraded") is False and found["total"] == players:
            return
        await asyncio.sleep(0.2)
    raise Broken("the boards were not rebuilt")


async def _compare(
    suite: Stack, database: asyncpg.Connection, players: int, samples: int
) -> list[Place]:
    """Top, rank and neighbours of random players, against SQL; answers those players."""
    ask = _asker(suite)
    _, top = await ask(f"/leaderboards/all_time?limit={TOP}")
    _expect(_shown(top["entries"]), await _between(database, 1, TOP), "the top")
    chosen = random.Random(players).sample(range(1, players + 1), min(samples, players))
    places = []
    for position in chosen:
        near = await _between(database, position - RADIUS, position + RADIUS)
        own = next(place for place in near if place[0] == position)
        status, found = await ask(f"/leaderboards/all_time/players/{own[1]}?radius={RADIUS}")
        _expect((status, found.get("rank")), (200, position), "a rank")
        _expect(_shown(found["neighbours"]), near, "neighbours")
        _expect(found["total"], players, "a total")
        _expect(found["percentile"], 1000 * (players - position) // players / 10, "percentile")
        places.append(own)
    return places


async def _between(database: asyncpg.Connection, first: int, last: int) -> list[Place]:
    rows = await database.fetch(
        "SELECT position, user_id, total FROM bench_places"
        " WHERE position BETWEEN $1 AND $2 ORDER BY position",
        first,
        last,
    )
    return [(row["position"], row["user_id"], row["total"]) for row in rows]


def _shown(entries: Sequence[Any]) -> list[Place]:
    return [(entry["rank"], entry["userId"], entry["score"]) for entry in entries]


def _expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Broken(f"{what}: {found} is not {wanted}, as SQL says")


async def _sizes(redis: Redis, players: int) -> tuple[float, float]:
    async def used(key: str) -> int:
        return int(await redis.memory_usage(key, samples=1000) or 0)

    board = await used("leaderboard:{all_time}") + await used("leaderboard:{all_time}:members")
    names = await redis.hlen("leaderboard:{names}")
    return board / players, await used("leaderboard:{names}") / max(1, names)


async def _settled(database: asyncpg.Connection, redis: Redis) -> None:
    """Returns when the stores are done with what writing so much leaves to be tidied."""
    await database.execute("VACUUM (ANALYZE) scores.players")
    await database.execute("CHECKPOINT")
    while True:
        about = await redis.info("persistence")
        if not about["aof_rewrite_in_progress"]:
            return
        await asyncio.sleep(0.5)


async def _requests(suite: Stack, places: Sequence[Place]) -> dict[str, Callable[[], bytes]]:
    """What makes the requests of each kind."""
    turn = random.Random(1)
    etag = await _etag(suite)

    def around(radius: int) -> Callable[[], bytes]:
        ready = [
            _get(suite, f"/leaderboards/all_time/players/{user}?radius={radius}")
            for _, user, _ in places
        ]
        return lambda: turn.choice(ready)

    would_be = [_get(suite, f"/leaderboards/all_time/would-be?score={s}") for _, _, s in places]
    top, known = _get(suite, "/leaderboard"), _get(suite, "/leaderboard", etag)
    return {
        "top 10": lambda: top,
        "top 10, 304": lambda: known,
        "rank": around(0),
        "around me": around(RADIUS),
        "would-be": lambda: turn.choice(would_be),
    }


async def _read(
    suite: Stack, title: str, request: Callable[[], bytes], users: int, seconds: float
) -> Read:
    """The users ask for it over and over. Raises Broken for any failure."""
    wanted = 304 if "304" in title else 200
    took_s: list[float] = []

    async def use(until: float) -> None:
        connection = _connection(suite)
        while (began := time.perf_counter()) < until:
            status, body = await connection.ask(request())
            if status != wanted:
                raise Broken(f"{title}: {status} {body.decode()}")
            took_s.append(time.perf_counter() - began)
        connection.close()

    await asyncio.gather(*(use(time.perf_counter() + 1) for _ in range(users)))
    took_s.clear()
    before, began = suite.cpu_s(), time.perf_counter()
    await asyncio.gather(*(use(began + seconds) for _ in range(users)))
    elapsed_s, after = time.perf_counter() - began, suite.cpu_s()
    cuts = quantiles(took_s, n=100)
    read = Read(
        title=title,
        answered=len(took_s),
        elapsed_s=elapsed_s,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        cpu_us={name: (after[name] - before[name]) / len(took_s) * 1e6 for name in SERVERS},
    )
    _say(f"  {title}: {sum(read.cpu_us.values()):.0f} µs each, p99 {read.p99_ms:.1f} ms")
    return read


def _connection(suite: Stack) -> Connection:
    place = urlsplit(suite.url)
    return Connection(place.hostname or "", place.port or 80)


def _get(suite: Stack, path: str, etag: str = "") -> bytes:
    known = f"If-None-Match: {etag}\r\n" if etag else ""
    host = urlsplit(suite.url).netloc
    return f"GET {BASE}{path} HTTP/1.1\r\nHost: {host}\r\n{known}\r\n".encode()


def _asker(suite: Stack) -> Callable[[str], Any]:
    connection = _connection(suite)

    async def ask(path: str) -> tuple[int, Any]:
        status, body = await connection.ask(_get(suite, path))
        return status, json.loads(body)

    return ask


async def _etag(suite: Stack) -> str:
    place = urlsplit(suite.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(_get(suite, "/leaderboard"))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return next(
        line.partition(":")[2].strip()
        for line in head.decode().splitlines()
        if line.lower().startswith("etag:")
    )


def _head(started: datetime) -> list[str]:
    return [
        "Reading the board all_time over HTTP, while nothing is awarded; a closed loop of users.",
        "Every answer to a sample was what SQL says.",
        "",
        f"date      {started:%Y-%m-%d %H:%M} UTC",
        f"command   python -m bench.board {' '.join(sys.argv[1:])}".rstrip(),
        f"code      {code()}",
        f"machine   {processor()}, {psutil.cpu_count()} cores",
    ]


def _table(sizes: Sequence[Size]) -> list[str]:
    def row(title: str, *cells: str) -> str:
        return title.ljust(34) + "".join(cell.rjust(14) for cell in cells)

    lines = [
        row("players", *(f"{size.players:,}" for size in sizes)),
        row("samples compared with SQL", *(f"{size.samples:,}" for size in sizes)),
        row("rebuilt from Postgres in, s", *(f"{size.rebuilt_s:.1f}" for size in sizes)),
        row("bytes of a player on the board", *(f"{size.entry_bytes:.0f}" for size in sizes)),
        row("bytes of a player's name", *(f"{size.name_bytes:.0f}" for size in sizes)),
        row("bare aiohttp, CPU of a POST, µs", *(f"{size.floor_us:.1f}" for size in sizes)),
    ]
    for reads in zip(*(size.reads for size in sizes), strict=True):
        lines += [
            "",
            reads[0].title,
            row("  reads/s", *(f"{r.answered / r.elapsed_s:,.0f}" for r in reads)),
            row("  p50, ms", *(f"{r.p50_ms:.1f}" for r in reads)),
            row("  p99, ms", *(f"{r.p99_ms:.1f}" for r in reads)),
            row("  CPU of all servers, µs", *(f"{sum(r.cpu_us.values()):.0f}" for r in reads)),
            *(
                row(f"    {name}", *(f"{r.cpu_us[name]:.1f}" for r in reads))
                for name in ("gateway", "scores", "redis", "postgres")
            ),
        ]
    return lines


def _goals(sizes: Sequence[Size]) -> list[str]:
    """What was aimed at, and what others need, where a bare server needs 40 µs for a POST."""
    lines = ["CPU of all servers, µs, where the targets were set"]
    for title, goal_us, peers in _GOALS:
        found_us = [
            sum(read.cpu_us.values()) * THERE_US / size.floor_us
            for size in sizes
            for read in size.reads
            if read.title == title
        ]
        found = " ".join(f"{us:,.0f}" for us in found_us)
        lines.append(f"  {title + ':':<14}{found}; the target is {goal_us}{peers}")
    return lines


_GOALS = (
    ("top 10", 95, "; Nakama 480 to 612, Node and Express 127 to 160"),
    ("top 10, 304", 80, ""),
    ("around me", 200, "; Nakama 1,142 to 1,411 of 1,000,000, Node 260 of 100,000"),
)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.board", description=__doc__)
    parser.add_argument("--players", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--samples", type=int, default=1000, help="compared with SQL (1000)")
    parser.add_argument("--users", type=int, default=64, help="who read at once (64)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each kind of read (6)")
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/")
    return parser.parse_args()


if __name__ == "__main__":
    main()
