"""What is remembered of boards: never older than it may be, dropped everywhere when it changes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chassis.ids import uuid7
from chassis.process import background
from chassis.redis import open_redis
from chassis.testing import eventually
from services.scores import reads as reading
from services.scores.boards.names import Names
from services.scores.boards.ranking import Page
from services.scores.boards.rules import ALL_TIME, Period
from services.scores.reads import cache as caching
from services.scores.reads.board_reads import BoardReads
from services.scores.reads.cache import Cache
from services.scores.reads.live import LiveReads
from services.scores.tests.model import Reader
from services.scores.tests.scores_served import KEYS, Scores, item

BOB = uuid7()


@pytest.fixture(autouse=True)
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing is forgotten by the passing of time."""
    monkeypatch.setattr(caching, "KEPT_S", 60.0)


@pytest.fixture
async def other(scores: Scores, redis_url: str) -> AsyncIterator[BoardReads]:
    """The reads of another process."""
    async with open_redis(redis_url) as redis:
        cache = Cache(redis)
        live = LiveReads(redis, Names(redis, scores.boards.store))
        reads = BoardReads(
            scores.registry, live, scores.periods.final_tables, scores.reads.degraded, cache
        )
        async with background(cache.follow()):
            await _remembers(scores, reads)
            yield reads


async def _remembers(scores: Scores, reads: BoardReads) -> Page:
    """Reads the top until it is remembered."""
    (period,) = scores.registry.get(ALL_TIME).periods

    async def kept() -> Page | None:
        await reads.top(period, 100, fresh=False)
        found = reads.cached(ALL_TIME, anonymous=True, version_min=0)
        return found.page if found else None

    page = await eventually(kept)
    assert page
    return page


def _forgotten(reads: BoardReads) -> Callable[[], Awaitable[bool]]:
    async def forgotten() -> bool:
        return reads.cached(ALL_TIME, anonymous=True, version_min=0) is None

    return forgotten


async def test_a_change_is_forgotten_by_every_process(scores: Scores, other: BoardReads) -> None:
    assert (await _remembers(scores, other)).entries == []

    await scores.award(item(BOB, 5))

    await eventually(_forgotten(other), timeout_s=2)
    assert [e.score for e in (await _remembers(scores, other)).entries] == [5]


async def test_a_new_name_is_shown_by_every_process(scores: Scores, other: BoardReads) -> None:
    await scores.award(item(BOB, 5, username="bob", name_version=1))
    await eventually(_forgotten(other), timeout_s=2)
    assert [e.username for e in (await _remembers(scores, other)).entries] == ["bob"]

    await scores.boards.names.keep({BOB: (2, "bobby")})

    await eventually(_forgotten(other), timeout_s=2)
    assert [e.username for e in (await _remembers(scores, other)).entries] == ["bobby"]


async def test_an_older_name_that_comes_late_is_not_shown(scores: Scores) -> None:
    await scores.award(item(BOB, 5, username="bob", name_version=1))
    await scores.boards.names.keep({BOB: (3, "bobby")})
    await scores.boards.names.keep({BOB: (2, "rob")})

    top = await Reader(scores, scores.registry.get(ALL_TIME).board).top(fresh=True)

    assert [entry.username for entry in top.entries] == ["bobby"]


async def test_nothing_is_kept_that_no_message_would_drop(scores: Scores) -> None:
    deaf = Cache(scores.redis)
    (period,) = scores.registry.get(ALL_TIME).periods

    async def read() -> Page:
        return _page(version=1)

    assert await deaf.load(period, read) == _page(version=1)
    assert deaf.get(period) is None


async def test_those_who_miss_together_read_once_and_outlast_one_who_gives_up(
    scores: Scores,
) -> None:
    (period,) = scores.registry.get(ALL_TIME).periods
    calls, go_on = 0, asyncio.Event()

    async def read() -> Page:
        nonlocal calls
        calls += 1
        await go_on.wait()
        return _page(version=7)

    readers = [asyncio.create_task(scores.reads.cache.load(period, read)) for _ in range(50)]
    await asyncio.sleep(0)
    readers[0].cancel()
    go_on.set()
    pages = await asyncio.gather(*readers, return_exceptions=True)

    assert calls == 1
    assert isinstance(pages[0], asyncio.CancelledError)
    assert pages[1:] == [_page(version=7)] * 49


async def test_what_was_overtaken_by_a_message_is_not_kept(
    scores: Scores, other: BoardReads
) -> None:
    await _remembers(scores, scores.reads.boards)  # so that a change is published
    (period,) = scores.registry.get(ALL_TIME).periods
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def read() -> Page:
        under_way.set()
        await go_on.wait()
        return _page(version=1)

    reader = asyncio.create_task(scores.reads.cache.load(period, read))
    await under_way.wait()
    await scores.award(item(BOB, 5))
    await eventually(_forgotten(other))
    await eventually(_forgotten(scores.reads.boards))
    go_on.set()

    assert await reader == _page(version=1)
    assert scores.reads.cache.get(period) is None


async def test_nothing_older_is_returned_than_was_shown_before(scores: Scores) -> None:
    board = scores.registry.get(ALL_TIME).board
    await scores.award(item(BOB, 5))
    shown = await Reader(scores, board).top(fresh=True)

    async def stale() -> Page:
        return _page(version=shown.version - 1)

    async def remembered() -> bool:
        await scores.reads.cache.load(Period(board, 0, None), stale)
        return scores.reads.cache.get(Period(board, 0, None)) is not None

    await eventually(remembered)

    assert (await Reader(scores, board).top()).version == shown.version - 1
    for how in ({"version_min": shown.version}, {"fresh": True}):
        again = await Reader(scores, board).top(**how)
        assert (again.version, [e.score for e in again.entries]) == (shown.version, [5])


async def test_redis_keeps_the_first_entries_until_they_change(scores: Scores) -> None:
    board = scores.registry.get(ALL_TIME).board
    live = LiveReads(scores.redis, Names(scores.redis, scores.boards.store))
    period = Period(board, 0, None)
    await scores.award(item(BOB, 5))

    async def scores_read(*, fresh: bool) -> list[int]:
        page = await live.top(period, 100, fresh=fresh)
        assert page
        return [entry.score for entry in page.entries]

    assert await scores_read(fresh=False) == [5]
    assert 3000 < await scores.redis.pttl("cache:{all_time}:top") <= 5000
    (member,) = await scores.redis.zrange("leaderboard:{all_time}", 0, 0)
    assert isinstance(member, bytes)
    await scores.redis.zincrby("leaderboard:{all_time}", 1, member)
    assert (await scores_read(fresh=False), await scores_read(fresh=True)) == ([5], [6])
    await scores.award(item(uuid7(), 2))
    assert await scores.redis.exists("cache:{all_time}:top") == 0
    assert await scores_read(fresh=False) == [6, 2]


async def test_warming_remembers_the_first_hundred_of_every_board(scores: Scores) -> None:
    await scores.award(*(item(uuid7(), 5) for _ in range(120)))
    await _remembers(scores, scores.reads.boards)

    await scores.reads.boards.warm()

    for entry in scores.registry.listed():
        kept = scores.reads.boards.cached(entry.board.name, anonymous=True, version_min=0)
        assert kept
        assert len(kept.page.entries) == 100


async def test_boards_are_read_ahead_again_and_again_though_no_one_reads_them(
    scores: Scores, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WARM_PAUSE_S", 0.05)
    async with open_redis(redis_url) as redis:
        reads = reading.Reads(
            scores.boards,
            scores.periods,
            scores.database,
            redis,
            reader=scores.database,
            cursor_keys=KEYS,
        )

        async def shown() -> list[int] | None:
            found = reads.boards.cached(ALL_TIME, anonymous=True, version_min=0)
            return [entry.score for entry in found.page.entries] if found else None

        async with background(reads.run()):
            for wanted in ([5], [7, 5]):
                await scores.award(item(uuid7(), wanted[0]))

                async def read_ahead(wanted: list[int] = wanted) -> bool:
                    return await shown() == wanted

                await eventually(read_ahead)


def _page(*, version: int) -> Page:
    return Page(version=version, updated_at_ms=0, total=0, entries=[], more=False)
