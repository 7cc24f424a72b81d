"""Resets: the end of a period is no drift and no failure, and hides no true drift either."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from prometheus_client import Counter
from structlog.testing import capture_logs

from chassis import clock
from chassis.ids import uuid7
from chassis.process import background
from chassis.redis import Redis
from chassis.testing import Certificates
from services.scores.boards import keys
from services.scores.boards.rules import Board, Operator, Order, Period, Reset
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import open_scores
from services.scores.upkeep import Upkeep, auditor
from services.scores.upkeep.auditor import Part, mismatches, repaired

PLAYERS = [uuid7() for _ in range(12)]
MIDNIGHTS = 10
BEFORE_MS = 30  # of a midnight, the clock is set
PLAY_PAUSE_S = 0.01  # so that the other work gets its turn
DAY_S = 24 * 3600.0

# The day of Kathmandu begins at 18:15 UTC; at a quarter to six there it is midnight in UTC.
ADDED = [
    Board(
        name="kathmandu",
        title="Kathmandu",
        operator=Operator.LATEST,
        order=Order.ASCENDING,
        every=Reset.DAY,
        reset_at="05:45",
        zone="Asia/Kathmandu",
    ),
    Board(name="best", title="Best", operator=Operator.BEST, every=Reset.WEEK),
]

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """All that is logged, at every level."""
    monkeypatch.setattr(auditor, "SECOND_LOOK_S", 0.02)
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("info"))
    with capture_logs() as lines:
        yield lines
    structlog.configure(wrapper_class=before)


@pytest.fixture
async def late_in_a_month(scores: Scores) -> AsyncIterator[None]:
    """At noon of a 25th, a year and more ahead; ten days later week and month have changed."""
    noon = (clock.now() + timedelta(days=400)).replace(day=25, hour=12, minute=0, second=0)
    with clock.ahead((noon - clock.now()).total_seconds()):
        await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
        await scores.admin.execute("SELECT scores.make_partitions($1, 3)", noon)
        for board in ADDED:
            assert await scores.boards.store.add_board(board)
        await scores.registry.refresh()
        await scores.upkeep.filling.work()
        await scores.upkeep.rebuild.work()
        yield


def _total(counter: Counter) -> float:
    return sum(s.value for m in counter.collect() for s in m.samples if s.name.endswith("_total"))


def _wrong(lines: Lines) -> Lines:
    return [
        line
        for line in lines
        if line["log_level"] in ("error", "critical")
        or (line.get("stream") == "security" and line["event"] != "certificates_read")
        or line["event"] == "redis_changed"
    ]


def _next_midnight() -> datetime:
    return (clock.now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


@asynccontextmanager
async def _load(scores: Scores) -> AsyncIterator[None]:
    async def play() -> None:
        points = 0
        while True:
            points = points % 3 + 1
            answers = await scores.award(*(item(user, points) for user in PLAYERS))
            assert not [a for a in answers if isinstance(a, str)], answers
            await asyncio.sleep(PLAY_PAUSE_S)

    async with background(play()):
        yield
    await scores.awards.publisher.drain()


async def _cross_midnight(scores: Scores) -> set[str]:
    """The work of all rooms around a midnight, in every order that matters.

    Returns the boards of which a period was closed.
    """
    upkeep, closer = scores.upkeep, scores.periods.closer
    midnight = _next_midnight()
    until = midnight - timedelta(milliseconds=BEFORE_MS)
    clock.set_offset(clock.offset_ms() / 1000 + (until - clock.now()).total_seconds())
    while clock.now() < midnight:
        await upkeep.auditor.work(1)
    due = {ended.board for ended in await scores.periods.store.due()}
    # Beside the close, after it while this process' copy of the periods is older, and then.
    await asyncio.gather(closer.work(1), upkeep.auditor.work(1), upkeep.rebuild.work())
    assert not await scores.periods.store.due()
    for _ in range(2):
        await upkeep.auditor.work(1)
        await upkeep.rebuild.work()
        await scores.registry.refresh()
    return due


async def _cross_midnights(scores: Scores, lines: Lines) -> None:
    drift, ledger = _total(repaired), _total(mismatches)
    closed: set[str] = set()
    for _ in range(MIDNIGHTS):
        closed |= await _cross_midnight(scores)
        assert not _wrong(lines)
    assert closed == {"daily", "weekly", "monthly", *(board.name for board in ADDED)}
    assert (_total(repaired), _total(mismatches)) == (drift, ledger)


@pytest.mark.parametrize("loaded", [False, True], ids=["at_rest", "under_load"])
@pytest.mark.usefixtures("late_in_a_month")
async def test_ten_midnights_are_no_drift_and_no_failure(
    scores: Scores, logged: Lines, *, loaded: bool
) -> None:
    await scores.award(*(item(user, 1 + i // 3) for i, user in enumerate(PLAYERS)))
    await scores.awards.publisher.drain()
    if loaded:
        async with _load(scores):
            await _cross_midnights(scores, logged)
    else:
        await _cross_midnights(scores, logged)
    for known in scores.registry.listed():
        assert (await scores.upkeep.auditor.sweep(*known.open(), repair=False))[1] == 0


@pytest.mark.parametrize("loaded", [False, True], ids=["at_rest", "under_load"])
@pytest.mark.usefixtures("late_in_a_month")
async def test_ten_midnights_after_a_long_pause_are_no_drift_and_no_failure(
    scores: Scores,
    scores_database: Mapping[str, str],
    redis: Redis,
    certificates: Certificates,
    logged: Lines,
    *,
    loaded: bool,
) -> None:
    await scores.award(*(item(user, 1 + i // 3) for i, user in enumerate(PLAYERS)))
    await scores.awards.publisher.drain()
    # Every period has ended since, and none is closed: the service did not run.
    later = (clock.now() + timedelta(days=62)).replace(day=25, tzinfo=UTC)
    with clock.ahead((later - clock.now()).total_seconds()):
        await scores.admin.execute("SELECT scores.make_partitions($1, 3)", later)
        async with open_scores(scores_database, redis, certificates, empty=False) as restarted:
            if loaded:
                async with _load(restarted):
                    await _cross_midnights(restarted, logged)
            else:
                await _cross_midnights(restarted, logged)


@pytest.mark.usefixtures("late_in_a_month")
async def test_drift_in_a_period_that_has_just_ended_is_repaired_until_it_is_closed(
    scores: Scores, logged: Lines
) -> None:
    await scores.award(*(item(user, 1 + i // 3) for i, user in enumerate(PLAYERS)))
    await scores.awards.publisher.drain()
    ended = _open(scores, "daily")
    with clock.ahead(DAY_S):
        await scores.registry.refresh()
        await scores.award(item(PLAYERS[3], 1))  # whose row names the next day by now
        before = _total(repaired)
        for user in PLAYERS[2:4]:
            await _one_point_by_hand(scores, ended, user)
            async with _being_closed(scores, ended):
                await scores.upkeep.auditor.work(1)
                await scores.upkeep.auditor.work(1)
            assert await scores.upkeep.auditor.sweep(ended, repair=False) == (24, 0)
        assert _total(repaired) == before + 2
        assert [(w["event"], w["period"]) for w in _wrong(logged)] == [
            ("drift_repaired", ended.id)
        ] * 2


@pytest.mark.usefixtures("late_in_a_month")
async def test_drift_in_a_period_that_is_closed_before_the_repair_is_left_alone(
    scores: Scores, logged: Lines
) -> None:
    await scores.award(*(item(user, 5) for user in PLAYERS))
    await scores.awards.publisher.drain()
    ended = _open(scores, "daily")
    with clock.ahead(DAY_S):
        await _one_point_by_hand(scores, ended, PLAYERS[0])
        (found,) = await scores.upkeep.auditor.drift([Part(ended, PLAYERS, [])])
        await scores.periods.closer.work(1)
        before = _total(repaired)
        await scores.upkeep.auditor._repair(found)
        assert await scores.upkeep.auditor.sweep(ended, repair=True) == (24, 0)
        assert _total(repaired) == before
        assert not _wrong(logged)


async def test_a_server_that_took_over_is_logged_and_a_new_board_is_not(
    scores: Scores, logged: Lines
) -> None:
    rebuild = scores.upkeep.rebuild
    await scores.boards.store.add_board(ADDED[1])
    await scores.upkeep.filling.work()
    await rebuild.work()
    assert not _wrong(logged)

    rebuild._epochs = dict.fromkeys(rebuild._epochs, b"another server")
    await rebuild.work()
    assert [line["event"] for line in _wrong(logged)] == ["redis_changed"]


async def test_a_server_that_took_over_while_another_replica_worked_is_noticed(
    scores: Scores, logged: Lines
) -> None:
    holder, waiting = scores.upkeep.rebuild, Upkeep(scores.boards, scores.database, scores.redis)
    await scores.award(item(PLAYERS[0], 50))
    await waiting.rebuild.work()  # the lease is the other's, which stops before it has seen it
    await scores.redis.delete(*_open(scores, "all_time").keys[:2])
    await holder._lease.release()

    await waiting.rebuild.work()
    assert await scores.upkeep.auditor.sweep(_open(scores, "all_time"), repair=False) == (2, 0)


async def _one_point_by_hand(scores: Scores, period: Period, user: str) -> None:
    row: Any = await scores.redis.hget(period.keys.members, keys.packed(user))
    assert row is not None
    await scores.redis.zincrby(period.keys.entries, 1, row[8:16] + keys.packed(user))


@asynccontextmanager
async def _being_closed(scores: Scores, period: Period) -> AsyncIterator[None]:
    """Within it a transaction closes the period; it fails in the end."""
    async with scores.admin.acquire() as connection:
        closing = connection.transaction()
        await closing.start()
        try:
            at = period.board.name, period.start_ms, clock.offset()
            await connection.execute("SELECT scores.freeze($1, $2, $3)", *at)
            yield
        finally:
            await closing.rollback()


def _open(scores: Scores, board: str) -> Period:
    """The oldest period of the board that is not closed."""
    return scores.registry.get(board).open()[0]
