"""A board is there for every replica as soon as it is listed by one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.redis import Redis
from chassis.testing import Certificates
from protos import events_pb2, scores_pb2
from protos.streams import AWARDS
from services.scores.boards.rules import Board, Ties
from services.scores.tests import model
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import open_scores
from services.scores.upkeep.filling import BOARDS_MAX

BOARD = Board(name="fresh", title="Made a moment ago", ties=Ties.SHARED)


@pytest.fixture
async def other(
    scores: Scores, scores_database: dict[str, str], redis: Redis, certificates: Certificates
) -> AsyncIterator[Scores]:
    """Another replica on the same stores, which does not read the boards by itself."""
    async with open_scores(scores_database, redis, certificates, empty=False) as opened:
        yield opened


async def test_another_replica_serves_every_read_of_it(scores: Scores, other: Scores) -> None:
    await model.add(scores, [BOARD])

    await model.Reader(other, BOARD).agrees([], absent=uuid7())


async def test_another_replica_lists_it(scores: Scores, other: Scores) -> None:
    await model.add(scores, [BOARD])

    reply = await other.stub.Boards(scores_pb2.BoardsRequest())

    assert reply.boards[-1].board == BOARD.name


@pytest.mark.parametrize("boards_before", [0, 1])
async def test_an_award_of_another_replica_is_on_it_and_published(
    scores: Scores,
    scores_database: dict[str, str],
    redis: Redis,
    certificates: Certificates,
    boards_before: int,
) -> None:
    await model.add(scores, [Board(name=f"b{n}", title="Before") for n in range(boards_before)])
    async with open_scores(scores_database, redis, certificates, empty=False) as other:
        await model.add(scores, [BOARD])
        player = uuid7()

        await other.award(item(player, 7))
        await other.awards.drain()

    await model.Reader(scores, BOARD).agrees(await model.lines(scores.pool, BOARD), absent=uuid7())
    entries: Any = await redis.xrange(AWARDS)
    (batch,) = (events_pb2.ScoreEvents.FromString(fields[b"batch"]) for _, fields in entries)
    assert BOARD.name in batch.boards


async def test_boards_of_all_replicas_are_counted(scores: Scores, other: Scores) -> None:
    there = len(scores.registry.all())
    await model.add(
        scores, [Board(name=f"b{n}", title="One of many") for n in range(BOARDS_MAX - there)]
    )

    with pytest.raises(Failed, match="TOO_MANY_BOARDS"):
        await other.stub.CreateBoard(scores_pb2.Board(board="more", title="One too many"))
