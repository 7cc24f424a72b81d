"""Ties: among equal scores who reached the score first is ahead, also after voids and restores.

Who has the same score again, award after award, reached it with the first of them.
"""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chassis import clock
from chassis.ids import uuid7
from services.scores.awards.records import Judged, Reversal, Sanction
from services.scores.boards import keys
from services.scores.boards.changes import Written
from services.scores.boards.rules import Board, Operator, Order, Reset
from services.scores.tests import model
from services.scores.tests.conftest import Scores, item
from services.scores.tests.plain_model import Model, Play, Spot

DAY_S = 24 * 3600.0
USERS = [uuid7() for _ in range(5)]
ADA, BOB, EVE, *_ = USERS
BOARDS = [
    Board(name=f"{operator}-{order[:4]}", title="A", operator=operator, order=order, every=every)
    for operator in Operator
    for order, every in ((Order.DESCENDING, Reset.DAY), (Order.ASCENDING, Reset.NONE))
]


@dataclass
class Ledger:
    """The service beside a plain model of the same ledger, whose only day is the present one."""

    scores: Scores
    model: Model = field(default_factory=Model)
    sanctions: int = 0

    @property
    def boards(self) -> list[Board]:
        """All there are."""
        return [known.board for known in self.scores.registry.listed()]

    async def award(self, *plays: tuple[str, int]) -> None:
        """One batch, of players and points."""
        judged = [
            Judged(
                action_id=uuid7(),
                user_id=user,
                username="a",
                name_version=1,
                action_type="WIN_GAME",
                points=points,
                attempt_id=uuid7(),
            )
            for user, points in plays
        ]
        rows = [r for r in await self.scores.awards.writer.insert(judged) if isinstance(r, Written)]
        assert len(rows) == len(plays)
        await self.scores.boards.places.apply(rows)
        self.model.plays += [Play(r.action_id, r.user_id, r.points, 0, r.seq) for r in rows]

    async def reverse(self, *plays: Play) -> None:
        """Voids those awards of one player that are in force, and restores the others."""
        voided = [play for play in plays if not play.in_force]
        for kind, chosen in (("void", [p for p in plays if p.in_force]), ("restore", voided)):
            if chosen:
                order = Reversal(
                    kind=kind,
                    user_id=chosen[0].user,
                    action_ids=[play.action_id for play in chosen],
                    reason="test",
                    actor="test",
                )
                changes = await self.scores.awards.ledger.reverse(order, limit=100)
                assert len(changes) == len(chosen)
                await self.scores.awards.publisher.publish_changes(changes)
                for play in chosen:
                    play.in_force = kind == "restore"

    async def hide_or_show(self, user: str) -> None:
        """The player leaves every board, or is back."""
        self.model.hidden ^= {user}
        self.sanctions += 1
        sanction = Sanction(user, hidden=user in self.model.hidden, version=self.sanctions)
        ledger = self.scores.awards.ledger
        await ledger.add_players([(user, "a", 1)])
        await self.scores.awards.publisher.publish_changes(await ledger.hide([sanction]))

    async def agrees(self) -> None:
        """Asserts that Postgres, Redis, a recount and the auditor have the model's places."""
        for board in self.boards:
            table = self.model.table(board, None)
            assert await self._from_redis(board) == table, board.name
            assert await self._from_postgres(board) == table, board.name
            assert await self._counted(board) == table, board.name
        names = [board.name for board in self.boards]
        assert await self.scores.upkeep.store.miscounted(USERS, boards=names) == []

    async def final_tables_agree(self) -> None:
        """Closes the period of the day; asserts that its tables have the model's places."""
        tables = {b.name: self.model.table(b, None) for b in self.boards if b.every is Reset.DAY}
        with clock.ahead(DAY_S):
            await self.scores.periods.closer.work(1)
        store = self.scores.periods.store
        closed = await store.closed()
        assert {c.board for c in closed} == tables.keys()
        for one in closed:
            found = await self._spots(
                "SELECT user_id, score, seq FROM scores.finals"
                " WHERE board = $1 AND period = $2 ORDER BY position",
                one.board,
                one.start_ms,
            )
            assert found == tables[one.board], one.board
            assert await store.ledger_hash(one) == one.hash

    async def _from_redis(self, board: Board) -> list[Spot]:
        period = self.scores.registry.get(board.name).open()[0]
        read = self.scores.redis.zrevrange if board.descending else self.scores.redis.zrange
        found: Any = await read(period.keys.entries, 0, -1, withscores=True)
        return [
            Spot(
                keys.unpacked(entry[8:]),
                int(score),
                keys.seq(int.from_bytes(entry[:8]), descending=board.descending),
            )
            for entry, score in found
        ]

    async def _from_postgres(self, board: Board) -> list[Spot]:
        period = self.scores.registry.get(board.name).open()[0]
        sign = -1 if board.descending else 1
        return await self._spots(
            "SELECT user_id, score, seq FROM scores.standing($1, $2) ORDER BY $3::int * score, seq",
            board.name,
            period.start_ms,
            sign,
        )

    async def _counted(self, board: Board) -> list[Spot]:
        sign = -1 if board.descending else 1
        return await self._spots(
            "SELECT c.user_id, c.score, c.seq FROM scores.counted($2) c"
            " JOIN scores.players p ON p.user_id = c.user_id AND NOT p.hidden"
            " WHERE c.board = $1 ORDER BY $3::int * c.score, c.seq",
            board.name,
            USERS,
            sign,
        )

    async def _spots(self, sql: str, *arguments: object) -> list[Spot]:
        rows: list[asyncpg.Record] = await self.scores.pool.fetch(sql, *arguments)
        return [Spot(str(row["user_id"]), row["score"], row["seq"]) for row in rows]


@pytest.fixture
async def ledger(scores: Scores) -> AsyncIterator[Ledger]:
    """An empty ledger at noon of a day far ahead, and boards of every operator and order."""
    noon = (clock.now() + timedelta(days=600)).replace(day=12, hour=12)
    with clock.ahead((noon - clock.now()).total_seconds()):
        await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
        await scores.admin.execute("SELECT scores.make_partitions($1, 1)", noon)
        await model.add(scores, BOARDS)
        yield Ledger(scores)


def _order(ledger: Ledger, board: str) -> list[str]:
    (rules,) = (b for b in ledger.boards if b.name == board)
    return [spot.user for spot in ledger.model.table(rules, None)]


@pytest.mark.parametrize("seed", range(4))
async def test_places_are_the_models_after_random_awards_voids_and_restores(
    ledger: Ledger, seed: int
) -> None:
    dice = random.Random(seed)
    for _ in range(14):
        match dice.choice(["award", "award", "reverse", "hide"]):
            case "award":
                size = dice.randint(1, 6)
                await ledger.award(*((dice.choice(USERS), dice.randint(1, 2)) for _ in range(size)))
            case "reverse":
                user = dice.choice(USERS)
                plays = [play for play in ledger.model.plays if play.user == user]
                await ledger.reverse(*dice.sample(plays, dice.randint(0, min(3, len(plays)))))
            case "hide":
                await ledger.hide_or_show(dice.choice(USERS))
        await ledger.agrees()
    await ledger.final_tables_agree()


@pytest.mark.parametrize("batches", [False, True], ids=["one_by_one", "in_one_batch"])
async def test_the_latest_score_keeps_its_place_while_it_is_repeated(
    ledger: Ledger, *, batches: bool
) -> None:
    plays = [(ADA, 5), (BOB, 5), (ADA, 5), (EVE, 5), (BOB, 4), (BOB, 5)]
    for batch in [plays] if batches else [[play] for play in plays]:
        await ledger.award(*batch)

    assert _order(ledger, "latest-desc") == [ADA, EVE, BOB]
    assert _order(ledger, "latest-asce") == [ADA, EVE, BOB]
    await ledger.agrees()


async def test_a_run_of_equal_latest_scores_is_that_of_the_awards_in_force(ledger: Ledger) -> None:
    await ledger.award((ADA, 5), (BOB, 5), (ADA, 4), (EVE, 5), (ADA, 5))
    assert _order(ledger, "latest-desc") == [BOB, EVE, ADA]
    first, _, between, _, _ = ledger.model.plays

    await ledger.reverse(between)
    assert _order(ledger, "latest-desc") == [ADA, BOB, EVE]
    await ledger.agrees()
    await ledger.award((ADA, 5))
    assert _order(ledger, "latest-desc") == [ADA, BOB, EVE]
    await ledger.agrees()
    await ledger.reverse(first)
    assert _order(ledger, "latest-desc") == [BOB, EVE, ADA]
    await ledger.agrees()
    await ledger.reverse(between)
    await ledger.agrees()


async def test_a_final_table_keeps_its_rows_where_a_repeat_of_the_score_is_undone(
    ledger: Ledger,
) -> None:
    await ledger.award((ADA, 5), (BOB, 5), (ADA, 5))
    await ledger.final_tables_agree()
    first, _, repeat = ledger.model.plays
    removed = "SELECT user_id::text FROM scores.finals WHERE removed AND board = 'latest-desc'"
    with clock.ahead(DAY_S):
        await ledger.reverse(repeat)
        assert await ledger.scores.pool.fetch(removed) == []
        await ledger.reverse(first)
        assert [row[0] for row in await ledger.scores.pool.fetch(removed)] == [ADA]
        await ledger.reverse(first)
        assert await ledger.scores.pool.fetch(removed) == []


async def test_an_award_of_no_points_is_refused_so_that_every_sum_moves(scores: Scores) -> None:
    answers = await scores.award(item(ADA, 0), item(BOB, -3), item(EVE, 1))

    assert [a if isinstance(a, str) else a.new_score for a in answers] == [
        "SCORE_OUT_OF_RANGE",
        "SCORE_OUT_OF_RANGE",
        1,
    ]
