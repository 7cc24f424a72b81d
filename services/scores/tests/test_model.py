"""The whole service against a plain model: any steps in any order, and all reads agree.

`SCOREBOARD_MODEL_EXAMPLES` (and `_STEPS`) make the search longer; without them it is the same
each time.
"""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chassis import clock
from chassis.ids import uuid7
from chassis.redis import Redis
from chassis.testing import Certificates
from protos import scores_pb2
from services.scores.awards.records import Sanction
from services.scores.boards.rules import Board, Operator, Order, Reset, Ties
from services.scores.tests.plain_model import (
    SCORE_MAX,
    Model,
    Play,
    Spot,
    behind,
    rank,
    would_be,
)
from services.scores.tests.scores_served import Scores, clear, item, open_scores

T = TypeVar("T")

LONG = "SCOREBOARD_MODEL_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("SCOREBOARD_MODEL_EXAMPLES", "6"))
STEPS = int(os.environ.get("SCOREBOARD_MODEL_STEPS", "10"))
DAY_S = 24 * 3600.0
USERS = 6

users = st.integers(0, USERS - 1)
# Few values, so that there are ties; and all that is left to the greatest score there is.
points = st.sampled_from([3, 2, 1, 5, None])
batches = st.lists(st.tuples(users, points), min_size=3, max_size=6)


def boards_of(group: int) -> list[Board]:
    """Six of the eighteen kinds of boards, with every operator, order and tie rule among them."""
    return [
        Board(
            name=f"{operator}-{order[:4]}-{ties}"[:32],
            title="Of the model",
            operator=operator,
            order=order,
            ties=ties,
            every=Reset.DAY,
        )
        for i, operator in enumerate(Operator)
        for j, order in enumerate(Order)
        for k, ties in enumerate(Ties)
        if (i + j + k) % 3 == group
    ]


ADDED_LATER = 2  # of the six
AROUND = ["void", "hide", "close", "lose", "restart"]


class World:
    """The service on its stores, as the machine's rules need it."""

    def __init__(self, urls: dict[str, str], redis: Redis, certificates: Certificates) -> None:
        self._urls = urls
        self._redis = redis
        self._certificates = certificates
        self._open = AsyncExitStack()
        self.scores: Scores

    async def begin(self, boards: Sequence[Board]) -> None:
        """Empty stores, a noon far ahead, and these boards."""
        noon = (clock.now() + timedelta(days=400)).replace(hour=12, minute=0, second=0)
        clock.set_offset((noon - clock.now()).total_seconds() + clock.offset_ms() / 1000)
        await self._redis.flushall()
        await self._start(empty=True)
        await self.scores.admin.execute("SELECT scores.make_partitions($1, 12)", noon)
        for board in boards:
            assert await self.scores.boards.store.add_board(board)
            await self.scores.upkeep.store.list_board(board.name)
        await self.rebuild()

    async def end(self) -> None:
        await self._open.aclose()
        clock.set_offset(0)

    async def restart(self) -> None:
        await self._open.aclose()
        await self._start(empty=False)

    async def rebuild(self) -> None:
        await self.scores.registry.refresh()
        await self.scores.upkeep.rebuild.work()

    async def close(self) -> None:
        """The next day: what has ended is closed."""
        clock.set_offset(clock.offset_ms() / 1000 + DAY_S)
        scores = self.scores
        await scores.registry.refresh()
        await scores.periods.closer.work(1)
        closing = scores.periods.store
        for closed in await closing.closed():
            assert await closing.ledger_hash(closed) == closed.hash
        await scores.registry.refresh()
        await self._redis.delete("lease:scores:rebuild")
        await scores.upkeep.rebuild.work()

    async def _start(self, *, empty: bool) -> None:
        self._open = AsyncExitStack()
        await self._redis.delete("lease:scores:rebuild", "lease:scores:filling")
        self.scores = await self._open.enter_async_context(
            open_scores(self._urls, self._redis, self._certificates, empty=empty)
        )

    async def lose(self) -> None:
        await self._redis.flushall()


class Machine(RuleBasedStateMachine):
    """Its rules run in a thread beside the loop that everything else lives on."""

    world: World
    group: int
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    @initialize(first=batches, second=batches)
    def begin(
        self, first: list[tuple[int, int | None]], second: list[tuple[int, int | None]]
    ) -> None:
        self.model = Model()
        self.users = [uuid7() for _ in range(USERS)]
        boards = boards_of(self.group)
        self.boards, self.later = boards[ADDED_LATER:], boards[:ADDED_LATER]
        self.sanctions = 0
        self.run(self.world.begin(self.boards))
        self.award(first)
        self.award(second)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.run(self.world.end())

    @rule(batch=batches)
    def award_some(self, batch: list[tuple[int, int | None]]) -> None:
        self.award(batch)

    @rule(
        index=users,
        worth=points,
        doing=st.sampled_from(["void", "hide", "close", "lose", "restart"]),
    )
    def award_around(self, index: int, worth: int | None, doing: str) -> None:
        """Awards before and after, so that there is something to be wrong."""
        self.award([(index, 2), ((index + 1) % USERS, worth), ((index + 2) % USERS, worth)])
        match doing:
            case "void":
                self.void(index, one=True, choice=0)
            case "hide":
                self.ban_or_unban(index)
            case "close":
                self.close_the_day()
            case "lose":
                self.lose_redis()
            case "restart":
                self.restart()
        self.award([(index, worth), ((index + 2) % USERS, 1)])

    def award(self, batch: list[tuple[int, int | None]]) -> None:
        expected, items = [], []
        for index, given in batch:
            user = self.users[index]
            left = SCORE_MAX - self.model.total(user, with_voided=True)
            worth = given or left
            # What a restore could take beyond the greatest score is left to a test of its own.
            refused = self.model.total(user) + worth > SCORE_MAX
            if worth < 1 or (worth > left and not refused):
                continue
            play = Play(uuid7(), user, worth, self.model.day, len(self.model.plays))
            items.append(item(user, worth, action_id=play.action_id))
            expected.append("SCORE_OUT_OF_RANGE" if refused else self.model.total(user) + worth)
            if not refused:
                self.model.plays.append(play)
        if items:
            answers = self.run(self.world.scores.award(*items))
            assert [a if isinstance(a, str) else a.new_score for a in answers] == expected

    @rule(index=users, one=st.booleans(), choice=st.integers(0, 99))
    def void_some(self, index: int, one: bool, choice: int) -> None:
        self.void(index, one=one, choice=choice)

    def void(self, index: int, *, one: bool, choice: int) -> None:
        self._reverse(self.users[index], one, choice, in_force=True)

    @rule(index=users, one=st.booleans(), choice=st.integers(0, 99))
    def restore(self, index: int, one: bool, choice: int) -> None:
        self._reverse(self.users[index], one, choice, in_force=False)

    def _reverse(self, user: str, one: bool, choice: int, *, in_force: bool) -> None:
        plays = [p for p in self.model.plays if p.user == user and p.in_force is in_force]
        if not plays:
            return
        if one:
            plays = [plays[choice % len(plays)]]
        kind = scores_pb2.ReverseRequest.VOID if in_force else scores_pb2.ReverseRequest.RESTORE
        reply = self.run(
            self.world.scores.stub.Reverse(
                scores_pb2.ReverseRequest(
                    kind=kind,
                    user_id=user,
                    action_ids=[p.action_id for p in plays] if one else [],
                    reason="model",
                    actor="model",
                )
            )
        )
        assert len(reply.rows) == len(plays)
        for play in plays:
            play.in_force = not in_force

    @rule(index=users)
    def ban_or_unban_a_player(self, index: int) -> None:
        self.ban_or_unban(index)

    def ban_or_unban(self, index: int) -> None:
        user = self.users[index]
        self.model.hidden ^= {user}
        self.sanctions += 1
        sanction = Sanction(user, hidden=user in self.model.hidden, version=self.sanctions)

        async def hide() -> None:
            awards = self.world.scores.awards
            # As the service does it: the sanction may come before the player's first award.
            await awards.ledger.add_players([(user, "", 0)])
            await awards.publisher.publish_changes(await awards.ledger.hide([sanction]))

        self.run(hide())

    def close_the_day(self) -> None:
        for board in self._daily():
            table = self.model.table(board, self.model.day)
            self.model.frozen[board.name, self.model.day] = table
        self.model.day += 1
        self.run(self.world.close())

    def lose_redis(self) -> None:
        self.run(self.world.lose())

    @rule(doing=st.sampled_from(["rebuild", "close", "lose", "restart", "restore"]), index=users)
    def something_else(self, doing: str, index: int) -> None:
        match doing:
            case "rebuild":
                self.run(self.world.rebuild())
            case "close":
                self.close_the_day()
            case "lose":
                self.lose_redis()
            case "restart":
                self.restart()
            case "restore":
                self._reverse(self.users[index], False, 0, in_force=False)

    def restart(self) -> None:
        self.run(self.world.restart())

    @precondition(lambda self: self.later)
    @rule()
    def add_board(self) -> None:
        board = self.later.pop()

        async def create() -> None:
            scores = self.world.scores
            assert await scores.boards.store.add_board(board)
            await scores.upkeep.filling.work()

        self.run(create())
        self.boards = [*self.boards, board]

    @invariant()
    def all_reads_agree(self) -> None:
        if hasattr(self, "model"):
            self.run(self._agree())

    def _daily(self) -> list[Board]:
        return [*self.boards, self.world.scores.registry.get("daily").board]

    async def _agree(self) -> None:
        scores, day = self.world.scores, self.model.day
        await scores.awards.publisher.drain()
        # Degraded reads may be as old as their snapshot; the model holds the present alone.
        scores.reads.degraded._tables.clear()
        all_time = scores.registry.get("all_time").board
        present = [(b, "", self.model.table(b, day)) for b in self._daily()]
        present.append((all_time, "", self.model.table(all_time, None)))
        past = [
            (board, "previous", self.model.frozen[board.name, day - 1])
            for board in self._daily()
            if (board.name, day - 1) in self.model.frozen
        ]
        for boards in (present, past):
            await self._tops(boards)
            await self._arounds(boards)
            await asyncio.gather(*(self._rest(*one) for one in boards))

    async def _tops(self, boards: Sequence[tuple[Board, str, list[Spot]]]) -> None:
        items = [
            scores_pb2.TopItem(board=b.name, limit=100, period=period, fresh=True)
            for b, period, _ in boards
        ]
        reply = await self.world.scores.stub.Top(scores_pb2.TopRequest(items=items))
        for (board, period, table), result in zip(boards, reply.results, strict=True):
            rows = [(e.user_id, e.rank, e.score) for e in result.top.entries]
            assert rows == self._rows(board, table), board.name
            assert result.top.total == len(table)
            removed = {e.user_id for e in result.top.entries if e.removed}
            assert removed == (
                self.model.removed(board, self.model.day - 1) if period else set()
            ), board.name

    async def _arounds(self, boards: Sequence[tuple[Board, str, list[Spot]]]) -> None:
        wanted = [(b, p, t, user) for b, p, t in boards for user in self.users]
        items = [
            scores_pb2.AroundItem(board=b.name, user_id=user, radius=2, period=period)
            for b, period, _, user in wanted
        ]
        reply = await self.world.scores.stub.Around(scores_pb2.AroundRequest(items=items))
        for (board, _, table, user), result in zip(wanted, reply.results, strict=True):
            i = next((i for i, spot in enumerate(table) if spot.user == user), None)
            if i is None:
                assert result.failure.code == "NOT_RANKED"
                continue
            place = result.place
            found = (place.rank, place.score, place.total, place.behind)
            expected = (rank(board, table, i), table[i].score, len(table), behind(board, table, i))
            assert found == expected, board.name
            near = [e.user_id for e in place.neighbours]
            assert near == [spot.user for spot in table[max(0, i - 2) : i + 3]]

    async def _rest(self, board: Board, period: str, table: list[Spot]) -> None:
        stub = self.world.scores.stub
        request = scores_pb2.RanksRequest(board=board.name, user_ids=self.users, period=period)
        rows = [(e.user_id, e.rank, e.score) for e in (await stub.Ranks(request)).entries]
        assert sorted(rows) == sorted(self._rows(board, table)), board.name
        scores = [2, table[0].score if table else 1]
        items = [
            scores_pb2.WouldBeItem(board=board.name, score=score, period=period) for score in scores
        ]
        reply = await stub.WouldBe(scores_pb2.WouldBeRequest(items=items))
        assert [(r.would_be.rank, r.would_be.total) for r in reply.results] == [
            (would_be(board, table, score), len(table)) for score in scores
        ], board.name

    def _rows(self, board: Board, table: list[Spot]) -> list[tuple[str, int, int]]:
        return [(spot.user, rank(board, table, i), spot.score) for i, spot in enumerate(table)]


@pytest.mark.timeout(3600 if LONG else 120)
@pytest.mark.parametrize("group", [0, 1, 2])
async def test_every_read_agrees_with_a_plain_model_after_any_steps(
    scores_database: dict[str, str], redis: Redis, certificates: Certificates, group: int
) -> None:
    Machine.group = group
    Machine.world = World(scores_database, redis, certificates)
    Machine.loop = asyncio.get_running_loop()
    how = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.explicit, Phase.generate],
    )
    try:
        await asyncio.to_thread(run_state_machine_as_test, Machine, settings=how)
    finally:
        clock.set_offset(0)
        async with open_scores(scores_database, redis, certificates) as scores:
            await clear(scores.admin)
            await scores.registry.refresh()
