"""Every read of boards of every operator, order and tie rule, against the bare ledger."""

import random
from datetime import timedelta
from typing import Any

import pytest

from chassis import clock
from chassis.ids import uuid7
from chassis.testing import eventually
from services.scores.awards.records import Reversal, Sanction
from services.scores.boards.changes import Change
from services.scores.boards.keys import unpacked
from services.scores.boards.rules import Board, Order, Period, Reset, Ties
from services.scores.tests import model
from services.scores.tests.conftest import Scores, item

LARGEST = 2**53 - 1


class History:
    """What happens to some players, in a random order that is the same each time."""

    def __init__(self, scores: Scores, seed: int) -> None:
        self._scores = scores
        self._random = random.Random(seed)
        self.players = [uuid7() for _ in range(40)]
        self._giants = set(self.players[:6])
        self._sanction = 0

    async def go_on(self, steps: int) -> None:
        """Awards in batches, and now and then a void, a restore, a hiding or a showing."""
        for _ in range(steps):
            players = self._random.choices(self.players, k=12)
            answers = await self._scores.award(*(item(p, self._points(p)) for p in players))
            assert "" not in [getattr(answer, "action_id", "") for answer in answers]
            player = self._random.choice(self.players)
            kind = self._random.choice(("void", "restore", "hide", "hide", ""))
            if kind == "hide":
                self._sanction += 1
                hidden = self._random.random() < 0.5
                sanction = Sanction(player, hidden, self._sanction)
                await self._scores.awards.ledger.add_players([(player, "", 0)])
                await self._publish(await self._scores.awards.ledger.hide([sanction]))
            elif kind:
                reversal = Reversal(kind=kind, user_id=player, reason="", actor="test")
                limit = self._random.randint(1, 3)
                await self._publish(await self._scores.awards.ledger.reverse(reversal, limit=limit))

    async def _publish(self, changes: list[Change]) -> None:
        users = list({change.user_id for change in changes})
        await self._scores.boards.places.place(await self._scores.boards.store.of(users))

    def _points(self, player: str) -> int:
        if player in self._giants:
            self._giants.discard(player)
            return LARGEST - 500 + self._random.randint(0, 2)
        return self._random.randint(1, 4)


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_read_says_what_the_ledger_says_from_redis_and_without_it(
    scores: Scores, seed: int
) -> None:
    boards = model.boards()
    await model.add(scores, boards)
    history = History(scores, seed)

    for _ in range(2):
        await history.go_on(8)
        for board in boards:
            await model.Reader(scores, board).agrees(
                await model.lines(scores.pool, board), absent=uuid7()
            )

    for board in boards:
        period = Period(board, 0, None)
        await scores.upkeep.redis_boards.begin(period, wipe=False)

        async def forgotten(period: Period = period) -> bool:
            return scores.reads.cache.get(period) is None

        await eventually(forgotten)
        await model.Reader(scores, board, degraded=True).agrees(
            await model.lines(scores.pool, board), absent=uuid7()
        )


async def test_closed_periods_serve_every_read_that_open_ones_do(scores: Scores) -> None:
    boards = model.boards(every=Reset.DAY)
    noon = (clock.now() + timedelta(days=500)).replace(hour=12)
    with clock.ahead((noon - clock.now()).total_seconds()):
        await scores.awards.ledger.make_partitions()
        await model.add(scores, boards)
        history = History(scores, 3)
        await history.go_on(12)
        period = {b.name: scores.registry.get(b.name).at(clock.now_ms()) for b in boards}
        with clock.ahead(24 * 3600):
            await scores.registry.refresh()
            before = [
                (board, await model.lines(scores.pool, board), "previous") for board in boards
            ]
            # Ended, and not closed yet.
            await model.Reader(scores, boards[0], period="previous").agrees(
                before[0][1], absent=uuid7()
            )
            await scores.periods.closer.work(1)
            await scores.registry.refresh()
            await scores.redis.flushall()
            await history.go_on(3)  # changes nothing any more, but marks what was voided

            for board, lines, name in before:
                await model.Reader(scores, board, period=name).agrees(lines, absent=uuid7())
        with clock.ahead(40 * 24 * 3600):
            await scores.registry.refresh()
            for board, lines, _ in before[::5]:
                # By now only Postgres has it.
                known = period[board.name]
                assert known
                await model.Reader(scores, board, period=known.id).agrees(lines, absent=uuid7())
    await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")


async def test_rows_of_a_closed_table_are_marked_when_voided_hidden_and_back(
    scores: Scores,
) -> None:
    board = Board(name="marked", title="Marked", every=Reset.DAY)
    ada, _, eve = players = [uuid7() for _ in range(3)]
    noon = (clock.now() + timedelta(days=600)).replace(hour=12)

    async def removed() -> list[str]:
        top = await model.Reader(scores, board, period="previous").top()
        assert [e.user_id for e in top.entries] == players
        return [e.user_id for e in top.entries if e.removed]

    with clock.ahead((noon - clock.now()).total_seconds()):
        await scores.awards.ledger.make_partitions()
        await model.add(scores, [board])
        await scores.award(*(item(p, 30 - i) for i, p in enumerate(players)))
        with clock.ahead(24 * 3600):
            await scores.registry.refresh()
            await scores.periods.closer.work(1)
            await scores.registry.refresh()
            seal = (await model.Reader(scores, board, period="previous").top()).seal
            (closed,) = await scores.periods.store.closed("marked")
            assert (seal.hash, seal.signature) == (closed.hash, closed.signature)
            assert await removed() == []
            void = Reversal(kind="void", user_id=ada, reason="", actor="test")
            await scores.awards.ledger.reverse(void, limit=10)
            await scores.awards.ledger.hide([Sanction(eve, True, 1)])
            assert await removed() == [ada, eve]
            restore = Reversal(kind="restore", user_id=ada, reason="", actor="test")
            await scores.awards.ledger.reverse(restore, limit=10)
            await scores.awards.ledger.hide([Sanction(eve, False, 2)])
            assert await removed() == []
    await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("ties", Ties)
async def test_a_planted_drift_is_seen_and_healed_by_force(
    scores: Scores, order: Order, ties: Ties
) -> None:
    board = Board(name="drifting", title="Drifting", order=order, ties=ties)
    await model.add(scores, [board])
    players = [uuid7() for _ in range(8)]
    await scores.award(*(item(p, 10 + i // 2) for i, p in enumerate(players)))
    period = scores.registry.get("drifting").periods[0]
    key = "leaderboard:{drifting}"
    for member in (await scores.redis.zrange(key, 0, 2))[1:]:
        assert isinstance(member, bytes)
        await scores.redis.zincrby(key, 1, member)

    standings = await scores.boards.store.of(players)
    states = await scores.upkeep.redis_boards.states(period, players)
    mine = {s.user_id: s for s in standings if s.board == "drifting"}
    drifted = [
        player
        for player, state in zip(players, states, strict=True)
        if state and state.score != mine[player].score
    ]
    assert len(drifted) == 2
    await scores.boards.places.place(standings)
    assert await scores.upkeep.redis_boards.states(period, players) == states

    await scores.boards.places.place(standings, force=True)

    await model.Reader(scores, board).agrees(await model.lines(scores.pool, board), absent=uuid7())
    await scores.upkeep.redis_boards.forget(period, players[:3])
    assert await scores.upkeep.redis_boards.states(period, players[:3]) == [None] * 3
    members: Any = await scores.redis.hkeys(period.keys.members)
    assert sorted(map(unpacked, members)) == sorted(players[3:])
