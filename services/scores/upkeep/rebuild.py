"""Completes the boards in Redis from Postgres: at the start, and after Redis lost data."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from prometheus_client import Counter, Gauge

from chassis import clock
from chassis.redis import UNAVAILABLE, Redis, Script
from chassis.redis.lease import Lease
from chassis.telemetry import log
from services.scores.boards import Boards, keys
from services.scores.boards.rules import Period
from services.scores.upkeep.redis_boards import PLAYERS_AT_ONCE, RedisBoards
from services.scores.upkeep.store import Page, UpkeepStore

LOOK_S = 0.5
LEASE_S = 10.0  # a page of players takes far less
PAGE = 5000
SHOW_MS = 200  # between two updates of the progress
SHOWN_S = 3600  # how long the progress of the last rebuild is kept
# What Redis acknowledged and then lost is younger: its append-only file is synced each second,
# and a replica that takes over is not further behind.
LOST_MAX_S = 600.0

rebuilt = Counter("scoreboard_boards_rebuilt_total", "Boards completed from Postgres", ["board"])
progress = Gauge("scoreboard_rebuild_progress_ratio", "Of the players of a rebuild; 1: none runs")
progress.set(1)


class Interrupted(Exception):
    """The lease was lost, or Redis lost its data again: the next pass begins again."""


class Progress(NamedTuple):
    """How far the last rebuild is; `boards` by their tags."""

    boards: Sequence[str]
    done: int
    players: int
    ended: bool


class Rebuild:
    """One of all replicas works at a time. Methods raise RedisError and DbUnavailable."""

    def __init__(
        self, redis: Redis, boards: Boards, redis_boards: RedisBoards, store: UpkeepStore
    ) -> None:
        self._redis = redis
        self._boards = boards
        self._redis_boards = redis_boards
        self._store = store
        self._lease = Lease(redis, "lease:scores:rebuild", ttl_s=LEASE_S)
        self._look = Script.read(redis, __package__, "epoch.lua")
        self._epochs: dict[str, bytes] = {}  # of the boards that had begun, at the last look
        self._settled = asyncio.Event()

    async def run(self) -> None:
        """Works forever."""
        try:
            while True:
                try:
                    await self.work()
                except Exception as error:
                    log.warning("rebuild_interrupted", error=repr(error))
                await asyncio.sleep(LOOK_S)
        finally:
            with suppress(*UNAVAILABLE):
                await self._lease.release()

    async def settled(self, *, wait_s: float) -> bool:
        """Whether the boards were all complete at some time since the start, or soon are."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._settled.wait()
        return self._settled.is_set()

    async def work(self) -> None:
        """One pass over all boards: those that are not complete are made so.

        Does nothing while another replica has the lease.
        """
        fence = await self._lease.hold()
        # A board that is not listed is its filling's to complete.
        listed, now_ms = self._boards.registry.listed(), clock.now_ms()
        for known in listed:
            # There before its first event, which else has no rate.
            rebuilt.labels(known.board.name)
        begun = [period for known in listed for period in known.open()]
        coming = [p for k in listed for p in k.periods if p.start_ms > now_ms and not p.closed]
        await asyncio.gather(*map(self._redis_boards.prepare, coming))
        states = await self._look.many([(period.keys, ()) for period in begun])
        missing = [period for period, (ready, _) in zip(begun, states, strict=True) if not ready]
        if fence:
            if missing:
                await self.complete(missing, self._lease, fence)
            epochs = {period.tag: epoch for period, (_, epoch) in zip(begun, states, strict=True)}
            await self._follow(epochs, kept=[p.tag for p in begun if p not in missing])
        if fence or not missing:
            self._settled.set()

    async def complete(self, missing: Sequence[Period], lease: Lease, fence: int) -> None:
        """Empties those boards, and fills and marks them while the caller holds `lease` by `fence`.

        Raises Interrupted.
        """
        began = asyncio.get_running_loop().time()
        tags = [period.tag for period in missing]
        tokens = [await self._redis_boards.begin(period, wipe=True) for period in missing]
        meter = _ProgressMeter(self._redis, tags, await self._store.players())
        log.warning("rebuild_began", boards=tags, players=meter.players)
        async for page in self._pages(missing):
            await self._put(page, missing)
            if await meter.add(page.players) and await lease.hold() != fence:
                raise Interrupted
        ready = [
            await self._redis_boards.finish(period, token)
            for period, token in zip(missing, tokens, strict=True)
        ]
        if not all(ready):
            raise Interrupted
        await meter.end()
        for period in missing:
            rebuilt.labels(period.board.name).inc()
        took_s = asyncio.get_running_loop().time() - began
        log.info("rebuild_ended", boards=tags, players=meter.done, took_s=round(took_s, 2))

    async def progress(self) -> Progress | None:
        """How far the rebuild is that runs, or ran last; None: there was none in a while."""
        shown: Any = await self._redis.hgetall(keys.REBUILD)
        if not shown:
            return None
        return Progress(
            boards=shown[b"boards"].decode().split(","),
            done=int(shown[b"done"]),
            players=int(shown[b"players"]),
            ended=shown[b"ended"] == b"1",
        )

    async def _pages(self, missing: Sequence[Period]) -> AsyncIterator[Page]:
        """All players in those periods, the next page read while one is used."""
        read = partial(self._store.page, missing, limit=PAGE)
        following = asyncio.create_task(read(after=None))
        try:
            while (page := await following).last is not None:
                following = asyncio.create_task(read(after=page.last))
                yield page
        finally:
            following.cancel()

    async def _put(self, page: Page, missing: Sequence[Period]) -> None:
        periods = {(period.board.name, period.start_ms): period for period in missing}
        came = await asyncio.gather(
            *(self._redis_boards.fill(periods[p.board, p.period], p) for p in page.boards)
        )
        if users := {user for there in came for user in there}:
            # Awards put them there meanwhile, possibly late.
            await self._boards.places.place(await self._boards.store.of(list(users)))

    async def _follow(self, epochs: dict[str, bytes], *, kept: Sequence[str]) -> None:
        """Places players again where a board that was kept is on a server not seen before.

        Each period has keys of its own: one that begins is on a server that was seen with others.
        """
        if not {epochs[tag] for tag in kept} <= set(self._epochs.values()):
            placed = await self._place_again()
            if any(self._epochs.get(tag, epochs[tag]) != epochs[tag] for tag in kept):
                log.warning("redis_changed", placed_again=placed)
        self._epochs = epochs

    async def _place_again(self) -> int:
        """Puts players awarded lately where they stand: another server may lack the last awards.

        Returns how many.
        """
        users = await self._store.awarded_since(clock.now_ms() - round(LOST_MAX_S * 1000))
        for i in range(0, len(users), PLAYERS_AT_ONCE):
            standings = await self._boards.store.of(users[i : i + PLAYERS_AT_ONCE])
            await self._boards.places.place(standings)
        return len(users)


class _ProgressMeter:
    """The progress of a rebuild: in Redis, as a metric, and in the log at each tenth."""

    def __init__(self, redis: Redis, tags: Sequence[str], players: int) -> None:
        self.players = players
        self.done = 0
        self._redis = redis
        self._tags = tags
        self._began_ms = self._shown_ms = clock.now_ms()
        self._tenth = 0

    async def add(self, players: int) -> bool:
        """Whether it was time to show it."""
        self.done += players
        # Those who came since it began are more than were counted.
        progress.set(min(0.99, self.done / max(1, self.players)))
        if clock.now_ms() - self._shown_ms < SHOW_MS:
            return False
        self._shown_ms = clock.now_ms()
        await self._show(ended=False)
        if self.done * 10 // max(1, self.players) > self._tenth:
            self._tenth = self.done * 10 // max(1, self.players)
            log.info("rebuild_progressed", done=self.done, players=self.players)
        return True

    async def end(self) -> None:
        progress.set(1)
        await self._show(ended=True)

    async def _show(self, *, ended: bool) -> None:
        tags, times = ",".join(self._tags), ("began", self._began_ms, "now", clock.now_ms())
        shown = ("boards", tags, "done", self.done, "players", self.players, "ended", int(ended))
        await self._redis.execute_many(
            [("HSET", keys.REBUILD, *shown, *times), ("EXPIRE", keys.REBUILD, SHOWN_S)]
        )
