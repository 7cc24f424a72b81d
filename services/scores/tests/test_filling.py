"""Adding a board: it is filled from the ledger while awards go on, and shown when it is right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis import clock
from chassis.errors import Conflict, Failed
from chassis.ids import uuid7
from chassis.testing import eventually
from protos import scores_pb2
from services.scores.awards.records import Reversal, Sanction
from services.scores.boards import rules
from services.scores.tests import model
from services.scores.tests.conftest import Scores, item
from services.scores.upkeep import filling
from services.scores.upkeep.filling import Filling


def _board(name: str, **rules_: Any) -> scores_pb2.Board:
    given: dict[str, Any] = {"title": "Raids", "operator": "best", "public": True, **rules_}
    return scores_pb2.Board(board=name, **given)


@asynccontextmanager
async def _running(work: Filling) -> AsyncIterator[None]:
    task = asyncio.create_task(work.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _agrees(scores: Scores, name: str) -> None:
    board = scores.registry.get(name).board
    await model.Reader(scores, board).agrees(await model.lines(scores.pool, board), uuid7())


@pytest.mark.parametrize("operator", ["sum", "best", "latest"])
async def test_a_new_board_counts_what_was_awarded_before_it(scores: Scores, operator: str) -> None:
    players = [uuid7() for _ in range(30)]
    for turn in range(3):
        await scores.award(*(item(p, 1 + (7 * i + turn) % 9) for i, p in enumerate(players)))
    await scores.awards.ledger.reverse(
        Reversal(kind="void", user_id=players[3], reason="test", actor=players[0]), limit=10
    )
    await scores.awards.ledger.hide([Sanction(players[4], hidden=True, version=1)])

    async with _running(scores.upkeep.filling):
        board = await scores.stub.CreateBoard(_board("raids", operator=operator, ties="dense"))

    assert (board.board, board.operator, board.ties, board.reset) == (
        "raids",
        operator,
        "dense",
        "none",
    )
    assert "raids" in [b.board for b in (await scores.stub.Boards(_none())).boards]
    await _agrees(scores, "raids")


def _none() -> scores_pb2.BoardsRequest:
    return scores_pb2.BoardsRequest()


async def test_awards_while_a_board_is_filled_count_once_each(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "PLAYERS_AT_ONCE", 20)
    players = [uuid7() for _ in range(240)]
    await scores.award(*(item(p, 5) for p in players[:200]))
    ending = asyncio.Event()

    async def play(first: int) -> None:
        i = first
        while not ending.is_set():
            await scores.award(*(item(players[(i + 3 * j) % 240], 1 + j % 7) for j in range(25)))
            i += 1

    async with _running(scores.upkeep.filling):
        load = [asyncio.create_task(play(first)) for first in (0, 80, 160)]
        for name, operator in (("a", "sum"), ("b", "best"), ("c", "latest")):
            await scores.stub.CreateBoard(_board(name, operator=operator))

        async def listed() -> bool:
            await scores.registry.refresh()
            return len(scores.registry.listed()) == 7

        await eventually(listed, timeout_s=30)
        ending.set()
        await asyncio.gather(*load)

    for name in "abc":
        await _agrees(scores, name)


async def test_a_filling_that_was_cut_short_is_continued_and_never_shown_before(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "PLAYERS_AT_ONCE", 10)
    monkeypatch.setattr(filling, "ANSWER_S", 0.1)
    players = sorted(uuid7() for _ in range(50))
    await scores.award(*(item(p, 5) for p in players))
    refilled: list[str] = []
    refill = scores.upkeep.store.refill

    async def dying(users: list[str]) -> None:
        if len(refilled) == 20:
            raise ConnectionError("killed")
        refilled.extend(users)
        await refill(users)

    with monkeypatch.context() as patch:
        patch.setattr(scores.upkeep.store, "refill", dying)
        created = await scores.stub.CreateBoard(_board("raids"))
        with pytest.raises(ConnectionError):
            await scores.upkeep.filling.work()
    await scores.upkeep.filling._lease.release()
    assert created.board == "raids"
    assert "raids" not in [b.board for b in (await scores.stub.Boards(_none())).boards]

    rest: list[str] = []

    async def counting(users: list[str]) -> None:
        rest.extend(users)
        await refill(users)

    monkeypatch.setattr(scores.upkeep.store, "refill", counting)
    other = Filling(scores.redis, scores.boards, scores.upkeep.store, scores.upkeep.rebuild)
    await other.work()

    assert (refilled, rest) == (players[:20], players[20:])
    await _agrees(scores, "raids")


async def test_a_board_with_a_reset_begins_with_its_present_period_alone(
    scores: Scores,
) -> None:
    await scores.award(item(uuid7(), 5))
    async with _running(scores.upkeep.filling):
        board = await scores.stub.CreateBoard(
            _board("nightly", reset="day", reset_at="18:30", zone="Asia/Kathmandu")
        )

    (_, *later) = periods = scores.registry.get("nightly").periods
    assert periods[0].holds(clock.now_ms())
    assert later, "the next ones are made ahead"
    assert all(period.start_ms > clock.now_ms() for period in later)
    assert board.resets_at_ms == periods[0].end_ms
    assert rules.moment(periods[0].start_ms).strftime("%H:%M") == "12:45"


@pytest.mark.parametrize(
    ("rules_", "field"),
    [
        ({"board": "Raids"}, "board"),
        ({"title": ""}, "title"),
        ({"operator": "mean"}, "operator"),
        ({"order": "sideways"}, "order"),
        ({"ties": "none"}, "ties"),
        ({"reset": "hour"}, "reset.every"),
        ({"reset_at": "24:00"}, "reset.at"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"window": 9}, "window"),
        ({"action_types": ["AB", "AB", "win game"]}, "actionTypes[2]"),
        ({"action_types": [f"T{i}" for i in range(65)]}, "actionTypes"),
    ],
)
async def test_a_board_whose_rules_do_not_fit_is_refused(
    scores: Scores, rules_: dict[str, Any], field: str
) -> None:
    given = _board(rules_.pop("board", "raids"), **rules_)
    with pytest.raises(Failed) as refused:
        await scores.stub.CreateBoard(given)

    assert refused.value.code == "VALIDATION_FAILED"
    assert [error.field for error in refused.value.errors] == [field]


async def test_every_rule_that_does_not_fit_is_named_and_looking_at_them_adds_no_board(
    scores: Scores,
) -> None:
    wrong: dict[str, Any] = {
        "board": "Raids",
        "title": "",
        "operator": "mean",
        "order": "sideways",
        "ties": "none",
        "reset": "hour",
        "reset_at": "24:00",
        "zone": "Mars/Olympus",
        "window": 9,
        "action_types": ["A", "WIN_GAME", "win game"],
    }
    for call in (scores.stub.CreateBoard, scores.stub.CheckBoard):
        with pytest.raises(Failed) as refused:
            await call(scores_pb2.Board(**wrong))

        assert {error.field for error in refused.value.errors} == {
            "board",
            "title",
            "operator",
            "order",
            "ties",
            "reset.every",
            "reset.at",
            "zone",
            "window",
            "actionTypes[0]",
            "actionTypes[2]",
        }
    await scores.stub.CheckBoard(_board("raids"))
    await scores.registry.refresh()
    assert "raids" not in [known.board.name for known in scores.registry.all()]


async def test_a_type_that_is_named_twice_counts_once(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "ANSWER_S", 0.0)
    board = await scores.stub.CreateBoard(_board("raids", action_types=["AB", "CD", "AB"]))

    assert list(board.action_types) == ["AB", "CD"]


async def test_a_name_is_given_once_and_there_are_at_most_fifty_boards(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "ANSWER_S", 0.0)
    with pytest.raises(Conflict, match="BOARD_EXISTS"):
        await scores.stub.CreateBoard(_board("daily"))
    for i in range(46):
        await scores.boards.store.add_board(rules.Board(name=f"b{i}", title="B"))
    await scores.registry.refresh()
    with pytest.raises(Conflict, match="TOO_MANY_BOARDS"):
        await scores.stub.CreateBoard(_board("raids"))
