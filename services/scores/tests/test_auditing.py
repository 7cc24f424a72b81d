"""Auditing: any change made by hand in Redis is found, made right and counted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chassis import clock
from chassis.ids import uuid7
from chassis.testing import eventually
from services.scores.boards import keys
from services.scores.boards.keys import BoardKeys
from services.scores.boards.rules import Period
from services.scores.tests import model
from services.scores.tests.conftest import Scores, item
from services.scores.upkeep import auditor
from services.scores.upkeep.auditor import Auditor, mismatches, repaired

PLAYERS = 60


@dataclass
class Audited:
    """A board of sixty players, some of them with equal scores, and its auditor."""

    scores: Scores
    auditor: Auditor
    players: list[str]

    @property
    def period(self) -> Period:
        period = self.scores.registry.get("daily").at(clock.now_ms())
        assert period is not None
        return period

    @property
    def keys(self) -> BoardKeys:
        return self.period.keys

    async def entries(self) -> list[tuple[bytes, int]]:
        found: Any = await self.scores.redis.zrevrange(self.keys.entries, 0, -1, withscores=True)
        return [(entry, int(score)) for entry, score in found]

    async def right(self) -> bool:
        """Whether the board says what SQL says."""
        lines = await model.lines(self.scores.pool, self.period.board)
        found = [(keys.unpacked(e[-16:]), score) for e, score in await self.entries()]
        return found == [(line.user_id, line.score) for line in lines]

    async def sweep(self) -> float:
        """Audits until all was seen; how much was repaired."""
        before: float = repaired.labels("daily")._value.get()
        for _ in range(PLAYERS // 10 + 2):
            await self.auditor.work(1)
        after: float = repaired.labels("daily")._value.get()
        return after - before


@pytest.fixture
async def audited(scores: Scores) -> Audited:
    players = [uuid7() for _ in range(PLAYERS)]
    await scores.award(*(item(p, 10 + i // 4) for i, p in enumerate(players)))
    await scores.awards.publisher.drain()
    return Audited(scores, scores.upkeep.auditor, players)


async def _one_point(audited: Audited) -> None:
    entry, _ = (await audited.entries())[30]
    await audited.scores.redis.zincrby(audited.keys.entries, 1, entry)


async def _ghost(audited: Audited) -> None:
    unknown = keys.packed(uuid7())
    place = keys.place(1, descending=True)
    await audited.scores.redis.zadd(audited.keys.entries, {place + unknown: 9000})
    row: Any = (7).to_bytes(8) + place + bytes(8)
    await audited.scores.redis.hset(audited.keys.members, unknown, row)


async def _second_entry(audited: Audited) -> None:
    player = keys.packed(audited.players[3])
    await audited.scores.redis.zadd(
        audited.keys.entries, {keys.place(1, descending=True) + player: 9000}
    )


async def _removed(audited: Audited) -> None:
    entry, _ = (await audited.entries())[40]
    await audited.scores.redis.zrem(audited.keys.entries, entry)
    await audited.scores.redis.hdel(audited.keys.members, entry[-16:])


async def _lost_entry(audited: Audited) -> None:
    entry, _ = (await audited.entries())[20]
    await audited.scores.redis.zrem(audited.keys.entries, entry)


async def _wrong_place(audited: Audited) -> None:
    (first, score), (second, other) = (await audited.entries())[32:34]
    assert score == other
    swapped = second[:8] + first[-16:], first[:8] + second[-16:]
    await audited.scores.redis.zrem(audited.keys.entries, first, second)
    await audited.scores.redis.zadd(audited.keys.entries, dict.fromkeys(swapped, score))
    for entry in swapped:
        row: Any = (1).to_bytes(8) + entry[:8] + bytes(8)
        await audited.scores.redis.hset(audited.keys.members, entry[-16:], row)


async def _future_version(audited: Audited) -> None:
    entry, _ = (await audited.entries())[10]
    row: Any = (2**40).to_bytes(8) + entry[:8] + bytes(8)
    await audited.scores.redis.hset(audited.keys.members, entry[-16:], row)
    await audited.scores.redis.zincrby(audited.keys.entries, 500, entry)


PLANTED = [
    _one_point,
    _ghost,
    _second_entry,
    _removed,
    _lost_entry,
    _wrong_place,
    _future_version,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_planted_drift_is_found_repaired_and_counted(
    audited: Audited, plant: Callable[[Audited], Awaitable[None]]
) -> None:
    await plant(audited)
    assert not await audited.right()

    count = await audited.sweep()

    assert await audited.right()
    assert 1 <= count <= 4
    assert await audited.sweep() == 0


async def test_a_board_that_is_right_is_left_alone_while_awards_go_on(audited: Audited) -> None:
    scores, ending = audited.scores, asyncio.Event()
    i = 0

    async def play() -> None:
        nonlocal i
        while not ending.is_set():
            await scores.award(*(item(audited.players[(i + j) % PLAYERS], 1) for j in range(20)))
            i += 7

    load = asyncio.create_task(play())
    try:
        async with asyncio.timeout(20):
            swept_while_awarding = False
            while not swept_while_awarding:
                before = i
                assert await audited.sweep() == 0
                swept_while_awarding = 0 < before < i
    finally:
        ending.set()
        await load


async def test_an_award_that_is_still_to_be_published_is_no_drift(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(audited.scores.boards.places, "apply", fail)
        await audited.scores.award(item(audited.players[0], 3))
        await audited.scores.awards.publisher.drain()
    assert await audited.sweep() == 0
    assert not await audited.right()
    await audited.scores.awards.relay.work(1)
    assert await audited.right()


async def test_what_was_changed_in_postgres_is_reported_and_not_repaired(audited: Audited) -> None:
    before = mismatches._value.get()
    await audited.scores.admin.execute(
        "UPDATE scores.players SET total = total + 1 WHERE user_id = $1", audited.players[7]
    )

    assert await audited.auditor.count(audited.players) == 1
    assert mismatches._value.get() == before + 1


async def test_who_has_many_awards_is_counted_too_and_made_up_for_by_the_next_passes(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "COUNTED_ROWS", 10)
    busy, *_, last = sorted(audited.players)
    await audited.scores.award(*(item(busy, 1) for _ in range(49)))
    await audited.scores.awards.publisher.drain()
    await audited.scores.admin.execute(
        "UPDATE scores.players SET total = total + 1 WHERE user_id = ANY ($1)", [busy, last]
    )
    before = mismatches._value.get()

    found = []
    for _ in range(5 + (PLAYERS - 1 + 9) // 10):
        await audited.auditor.work(1)
        found.append(mismatches._value.get() - before)

    # Fifty awards take the first five passes, and the others' one each follow ten at a time.
    assert found == [1] * 10 + [2]


async def test_an_operator_sweeps_everything_and_repairs_only_when_requested(
    audited: Audited,
) -> None:
    await _one_point(audited)
    await _second_entry(audited)

    looked, wrong = await audited.auditor.sweep(audited.period, repair=False)
    assert (looked, wrong) == (2 * PLAYERS + 1, 2 + 1)  # the changed score is seen both ways
    assert not await audited.right()
    await audited.auditor.sweep(audited.period, repair=True)
    assert await audited.right()
    assert (await audited.auditor.sweep(audited.period, repair=False))[1] == 0


async def test_a_board_that_is_not_complete_is_the_rebuilds(audited: Audited) -> None:
    await audited.scores.redis.delete(*audited.keys)
    assert await audited.sweep() == 0
    await audited.scores.upkeep.rebuild.work()
    await eventually(audited.right)
