"""Closing: each award in exactly one period, a final table that the ledger proves."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from chassis import clock
from chassis.ids import uuid7
from chassis.keyring import Keyring
from chassis.postgres import StatementUndone
from chassis.redis.stream import StreamWriter
from chassis.testing import eventually
from protos import events_pb2
from protos.streams import AWARDS
from services.scores.awards.records import Reversal, Sanction
from services.scores.boards.rules import moment
from services.scores.periods.closer import Closer
from services.scores.periods.store import Closed, ClosingStore
from services.scores.tests.conftest import Scores, item

KEY = bytes(range(32))
DAY_S = 24 * 3600.0
ADA, BOB, EVE, IAN = (uuid7() for _ in range(4))


@dataclass
class Closings:
    """A closer beside the service, and what it keeps."""

    scores: Scores
    store: ClosingStore
    closer: Closer

    async def due(self) -> list[tuple[str, str]]:
        return [(d.board, d.id) for d in await self.store.due()]

    async def table(self, closed: Closed) -> list[tuple[str, int]]:
        """Players and scores of a final table, in its order."""
        rows = await self._rows(closed)
        return [(str(r["user_id"]), r["score"]) for r in rows]

    async def by_hand(self, closed: Closed) -> bytes:
        """The hash as docs/architecture.md says it, made of what the ledger has."""
        period = self.scores.registry.find(closed.board, closed.start_ms)
        assert period is not None
        assert period.end_ms is not None
        rows = await self.scores.pool.fetch(
            """
            SELECT l.user_id, sum(l.points)::bigint AS score, max(l.seq) AS seq, max(l.at) AS at
            FROM scores.ledger l
            WHERE l.kind = 'award' AND l.at >= $1 AND l.at < $2
            GROUP BY 1 ORDER BY 2 DESC, 3
            """,
            moment(period.start_ms),
            moment(period.end_ms),
        )
        lines = [f"final.v1\t{closed.board}\t{closed.id}\n"]
        lines += [
            f"{i}\t{r['user_id']}\t{r['score']}\t{r['seq']}\t{round(r['at'].timestamp() * 1000)}\n"
            for i, r in enumerate(rows, 1)
        ]
        return hashlib.sha256("".join(lines).encode()).digest()

    async def _rows(self, closed: Closed) -> list[Any]:
        rows: list[Any] = await self.scores.pool.fetch(
            "SELECT position, user_id, score, removed FROM scores.finals"
            " WHERE board = $1 AND period = $2 ORDER BY position",
            closed.board,
            closed.start_ms,
        )
        assert [r["position"] for r in rows] == list(range(1, len(rows) + 1))
        return rows

    async def removed(self, closed: Closed) -> list[str]:
        return [str(r["user_id"]) for r in await self._rows(closed) if r["removed"]]

    async def proved(self, closed: Closed) -> bool:
        """Whether table, ledger and signature agree."""
        assert closed.signature == hmac.digest(KEY, closed.hash, "sha256")
        assert await self.store.table_hash(closed) == closed.hash
        return await self.store.ledger_hash(closed) == closed.hash


@pytest.fixture
async def closings(scores: Scores) -> AsyncIterator[Closings]:
    """At noon of a Wednesday, a year and more ahead, with the periods of that day made."""
    noon = (clock.now() + timedelta(days=400)).replace(hour=12, minute=0, second=0)
    noon += timedelta(days=(2 - noon.weekday()) % 7)
    with clock.ahead((noon - clock.now()).total_seconds()):
        await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
        await scores.admin.execute("SELECT scores.make_partitions($1, 2)", noon)
        await scores.registry.refresh()
        store = ClosingStore(scores.database, Keyring(f"7:{_encoded(KEY)}"))
        yield Closings(scores, store, Closer(store, scores.boards.events))
    await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
    await scores.registry.refresh()


def _encoded(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode()


async def test_a_period_closes_after_its_end_and_not_before(closings: Closings) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50), item(BOB, 70))
    await scores.award(item(EVE, 70))
    await closings.closer.work(1)
    assert await closings.store.closed() == []

    with clock.ahead(DAY_S):
        await closings.closer.work(1)
        (closed,) = await closings.store.closed()
        await scores.award(item(ADA, 5))
        await closings.closer.work(1)

        assert (closed.board, closed.players) == ("daily", 3)
        assert await closings.table(closed) == [(BOB, 70), (EVE, 70), (ADA, 50)]
        assert closed.hash == await closings.by_hand(closed)
        assert await closings.proved(closed)
        assert await closings.store.closed() == [closed]
        assert closed.board not in {s.board for s in await scores.boards.store.of([BOB])}


async def test_the_hash_is_over_every_field_and_the_signature_over_the_hash(
    closings: Closings,
) -> None:
    await closings.scores.award(item(ADA, 50), item(BOB, 70))
    with clock.ahead(DAY_S):
        await closings.closer.work(1)
        (closed,) = await closings.store.closed()
        for column, other in (
            ("user_id", f"'{IAN}'::uuid"),
            ("score", "score + 1"),
            ("seq", "seq + 1"),
            ("reached_at", "reached_at + interval '1 ms'"),
            ("position", "position + 1"),
        ):
            (was,) = await closings.scores.admin.fetch(
                f"SELECT {column} AS was FROM scores.finals WHERE score = 50"
            )
            await closings.scores.admin.execute(
                f"UPDATE scores.finals SET {column} = {other} WHERE score = 50"
            )
            assert await closings.store.table_hash(closed) != closed.hash, column
            await closings.scores.admin.execute(
                f"UPDATE scores.finals SET {column} = $1 WHERE score < 70", was["was"]
            )
        assert await closings.proved(closed)


async def test_closings_are_published_once_each_also_after_the_stream_was_unavailable(
    closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("unavailable")

    with clock.ahead(DAY_S):
        with monkeypatch.context() as patch, suppress(ConnectionError):
            patch.setattr(StreamWriter, "append", fail)
            await closings.closer.work(1)
        assert [c.board for c in await closings.store.unpublished()] == ["daily"]
        for _ in range(2):
            await closings.closer.work(1)

        ((boards, event),) = await _published(closings.scores)
        (closed,) = await closings.store.closed()
        assert event.kind == events_pb2.ScoreEvent.PERIOD_CLOSED
        assert (boards, event.period) == (["daily"], closed.id)
        assert event.at_ms == closed.closed_at_ms


async def _published(scores: Scores) -> list[tuple[list[str], events_pb2.ScoreEvent]]:
    """The closings in the stream, each beside the boards of its batch."""
    entries: Any = await scores.redis.xrange(AWARDS)
    batches = [events_pb2.ScoreEvents.FromString(fields[b"batch"]) for _, fields in entries]
    return [
        (list(batch.boards), event)
        for batch in batches
        for event in batch.events
        if event.kind == events_pb2.ScoreEvent.PERIOD_CLOSED
    ]


async def test_what_is_overdue_for_weeks_closes_oldest_first_and_empty_periods_too(
    closings: Closings,
) -> None:
    await closings.scores.award(item(ADA, 50))
    with clock.ahead(45 * DAY_S):
        await closings.scores.registry.refresh()
        due = await closings.due()
        await closings.closer.work(1)

        assert len(due) > 6
        closed = await closings.store.closed()
        assert [(c.board, c.id) for c in closed] == due
        assert [c.closed_at_ms for c in closed] == sorted(c.closed_at_ms for c in closed)
        assert sum(c.players for c in closed) == 3  # of its day, week and month
        assert all([await closings.proved(c) for c in closed])
        published = [(boards[0], e.period) for boards, e in await _published(closings.scores)]
        assert published == due


async def test_a_hidden_player_is_left_out_and_the_ledger_still_proves_the_table(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50), item(BOB, 70))
    await scores.awards.ledger.hide([Sanction(BOB, hidden=True, version=1)])
    with clock.ahead(DAY_S):
        await closings.closer.work(1)
        await scores.awards.ledger.hide([Sanction(BOB, hidden=False, version=2)])

        (closed,) = await closings.store.closed()
        assert await closings.table(closed) == [(ADA, 50)]
        assert await closings.proved(closed)
        await scores.admin.execute("DELETE FROM scores.left_out")
        assert await closings.store.table_hash(closed) != closed.hash


async def test_a_void_before_the_close_counts_and_one_after_it_only_marks_the_row(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50), item(BOB, 70), item(EVE, 20))
    await scores.awards.ledger.reverse(_void(ADA), limit=10)
    await scores.awards.ledger.reverse(_void(EVE), limit=10)
    await scores.awards.ledger.reverse(_void(EVE, kind="restore"), limit=10)
    with clock.ahead(DAY_S):
        await closings.closer.work(1)
        (closed,) = await closings.store.closed()
        assert await closings.table(closed) == [(BOB, 70), (EVE, 20)]

        await scores.awards.ledger.reverse(_void(BOB), limit=10)
        await scores.awards.ledger.reverse(_void(ADA, kind="restore"), limit=10)
        assert await closings.removed(closed) == [BOB]
        assert await closings.proved(closed)
        await scores.awards.ledger.reverse(_void(BOB, kind="restore"), limit=10)
        assert await closings.removed(closed) == []
        await scores.awards.ledger.reverse(_void(EVE), limit=10)
        assert await closings.removed(closed) == [EVE]
        assert await closings.proved(closed)


def _void(user: str, *, kind: str = "void") -> Reversal:
    return Reversal(kind=kind, user_id=user, reason="test", actor=IAN)


async def test_voids_and_bans_racing_the_close_are_wholly_before_or_wholly_after_it(
    closings: Closings,
) -> None:
    scores = closings.scores
    players = [uuid7() for _ in range(40)]
    for _ in range(3):
        await scores.award(*(item(p, 10 + i) for i, p in enumerate(players)))
    with clock.ahead(DAY_S):
        race = [scores.awards.ledger.reverse(_void(p), limit=10) for p in players[:20]]
        race += [
            scores.awards.ledger.hide([Sanction(p, hidden=True, version=1)]) for p in players[20:]
        ]
        race.insert(20, closings.closer.work(1))  # type: ignore[arg-type]
        await asyncio.gather(*race)

        closed = (await closings.store.closed())[0]
        assert await closings.proved(closed)
        there = dict(await closings.table(closed))
        assert set(there.values()) <= {3 * (10 + i) for i in range(40)}
        # Who was voided after the close stands there marked.
        assert set(await closings.removed(closed)) == set(there) & set(players[:20])


async def _waited_for(scores: Scores) -> bool:
    """Whether another session waits for one of the two locks of closing."""
    rows = await scores.pool.fetch(
        "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7001 AND NOT granted"
    )
    return bool(rows)


async def test_an_award_that_is_being_written_at_the_end_is_in_the_table(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50))
    async with scores.admin.acquire() as connection:
        writing = connection.transaction()
        await writing.start()
        await connection.execute(
            "SELECT scores.award($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *([uuid7()], [ADA], ["WIN_GAME"], [7], [uuid7()], [None], [None], [None]),
            clock.offset(),
        )
        with clock.ahead(DAY_S):
            closing = asyncio.create_task(closings.closer.work(1))
            await eventually(lambda: _waited_for(scores))
            await writing.commit()
            await closing

    (closed,) = await closings.store.closed()
    assert await closings.table(closed) == [(ADA, 57)]
    assert await closings.proved(closed)


async def test_a_void_that_is_being_written_at_the_close_is_wholly_before_it(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50), item(BOB, 20))
    with clock.ahead(DAY_S):
        async with scores.admin.acquire() as connection:
            voiding = connection.transaction()
            await voiding.start()
            await connection.execute(
                "SELECT scores.reverse('void', $1, NULL, NULL, NULL, $2, 'test', 'test', $3)",
                *(ADA, [uuid7()], clock.offset()),
            )
            closing = asyncio.create_task(closings.closer.work(1))
            await eventually(lambda: _waited_for(scores))
            await voiding.commit()
            await closing

        (closed,) = await closings.store.closed()
        assert await closings.table(closed) == [(BOB, 20)]
        assert await closings.proved(closed)


async def test_a_void_that_begins_behind_the_barrier_is_wholly_before_the_close(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50), item(BOB, 20))
    with clock.ahead(DAY_S):
        (due,) = await closings.store.due()
        await closings.store.barrier()
        async with scores.admin.acquire() as connection:
            voiding = connection.transaction()
            await voiding.start()
            await connection.execute(
                "SELECT scores.reverse('void', $1, NULL, NULL, NULL, $2, 'test', 'test', $3)",
                *(ADA, [uuid7()], clock.offset()),
            )
            closing = asyncio.create_task(closings.store.close(due))
            await eventually(lambda: _waited_for(scores))
            await voiding.commit()
            closed = await closing

        assert closed is not None
        assert await closings.table(closed) == [(BOB, 20)]
        assert await closings.proved(closed)


async def test_two_closers_at_once_close_each_period_once(closings: Closings) -> None:
    await closings.scores.award(item(ADA, 50))
    other = Closer(closings.store, closings.scores.boards.events)
    with clock.ahead(45 * DAY_S):
        due = await closings.due()
        await asyncio.gather(closings.closer.work(1), other.work(2))

        closed = await closings.store.closed()
        assert [(c.board, c.id) for c in closed] == due
        assert all([await closings.proved(c) for c in closed])


async def test_a_clock_that_steps_back_puts_no_award_into_a_closed_period(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50))
    with clock.ahead(DAY_S):
        await scores.award(item(ADA, 7))
        await closings.closer.work(1)
    (closed,) = await closings.store.closed()

    await scores.award(item(BOB, 2))
    await scores.award(item(ADA, 1))

    days = {
        (s.user_id, s.period): s.score
        for s in await scores.boards.store.of([ADA, BOB])
        if s.board == "daily"
    }
    tomorrow = closed.start_ms + round(DAY_S * 1000)
    assert days == {(ADA, tomorrow): 8, (BOB, tomorrow): 2}
    assert await closings.proved(closed)
    at = await scores.pool.fetchval("SELECT at FROM scores.ledger ORDER BY seq DESC LIMIT 1")
    assert at == moment(tomorrow)


async def test_a_clock_that_steps_back_takes_no_player_back_into_a_day_that_is_over(
    closings: Closings,
) -> None:
    scores = closings.scores
    await scores.award(item(ADA, 50))
    with clock.ahead(DAY_S):
        await scores.award(item(ADA, 7))
    await scores.award(item(ADA, 1))
    with clock.ahead(DAY_S):
        await closings.closer.work(1)

        (closed,) = await closings.store.closed()
        assert await closings.table(closed) == [(ADA, 50)]
        assert await closings.proved(closed)


async def test_standings_of_closed_periods_are_removed(closings: Closings) -> None:
    scores = closings.scores
    players = [uuid7() for _ in range(30)]
    await scores.award(*(item(p, 10) for p in players))
    with clock.ahead(DAY_S):
        await scores.award(*(item(p, 10) for p in players))  # the day before moves to standings
        assert await scores.pool.fetchval("SELECT count(*) FROM scores.standings") == 30
        await closings.closer.work(1)
        for _ in range(4):
            await closings.store.sweep(since_s=3600, limit=10)

        assert await scores.pool.fetchval("SELECT count(*) FROM scores.standings") == 0
        (closed,) = await closings.store.closed()
        assert closed.players == 30


async def test_a_close_under_500_awards_a_second_puts_each_row_into_exactly_one_period(
    closings: Closings,
) -> None:
    scores, players = closings.scores, [uuid7() for _ in range(200)]
    midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    awarded = 0
    with clock.ahead((midnight - clock.now()).total_seconds() - 3):

        async def play(until: float) -> None:
            nonlocal awarded
            begun, i = time.monotonic(), 0
            while time.monotonic() < until:
                batch = [item(players[(7 * i + j) % 200], 1 + (i + j) % 9) for j in range(25)]
                answers = await scores.award(*batch)
                assert not [a for a in answers if isinstance(a, str)], answers
                awarded += len(batch)
                i += 1
                await asyncio.sleep(max(0.0, begun + i * 25 / 500 - time.monotonic()))

        async def close(until: float) -> None:
            while time.monotonic() < until:
                await closings.closer.work(1)
                await scores.registry.refresh()
                await asyncio.sleep(0.05)

        begun = time.monotonic()
        await asyncio.gather(play(begun + 6), close(begun + 6.5))
        took = time.monotonic() - begun

        (closed,) = [c for c in await closings.store.closed() if c.board == "daily"]
        assert await closings.proved(closed)
        assert closed.hash == await closings.by_hand(closed)
        assert await closings.proved(closed)
        final = sum(score for _, score in await closings.table(closed))
        standing = await scores.boards.store.of(players)
        running = sum(s.score for s in standing if s.board == "daily")
        everything = await scores.pool.fetchval("SELECT sum(points)::bigint FROM scores.ledger")
        assert 0 < final < everything
        assert final + running == everything
        rows = await scores.pool.fetchval("SELECT count(*) FROM scores.ledger")
        assert rows == awarded
        closed_s = closed.closed_at_ms / 1000 - midnight.timestamp()
    print(f"{awarded / took:.0f} awards/s, {closed.players} players, closed {closed_s:.2f} s late")


async def test_a_barrier_waits_for_the_award_under_way_and_gives_up_after_half_a_second(
    closings: Closings,
) -> None:
    async with closings.scores.admin.acquire() as connection:
        held = connection.transaction()
        await held.start()
        await connection.execute("SELECT pg_advisory_xact_lock_shared(7001, 1)")
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with pytest.raises(StatementUndone):
            await closings.store.barrier()
        assert 0.5 <= loop.time() - started_s < 2  # the rest is for a slow machine
        waiting = asyncio.create_task(closings.store.barrier())
        await asyncio.sleep(0)
        await held.rollback()
        await waiting
