"""Boards worked out from the bare ledger, to hold every read against."""

from dataclasses import dataclass
from typing import Any

import asyncpg

from protos import scores_pb2
from services.scores.boards.rules import Board, Operator, Order, Ties
from services.scores.tests.conftest import Scores


@dataclass(frozen=True)
class Line:
    """A player on a board: position and rank from 1."""

    position: int
    user_id: str
    score: int
    seq: int
    rank: int


async def lines(pool: asyncpg.Pool, board: Board) -> list[Line]:
    """The board in its order, of all awards that the ledger leaves in force."""
    sign = -1 if board.descending else 1
    rows = await pool.fetch(
        """
        WITH award AS (
          SELECT l.user_id, min(l.seq) AS seq, sum(l.points)::bigint AS points
          FROM scores.ledger l
          GROUP BY l.user_id, coalesce(l.origin_id, l.action_id) HAVING sum(l.points) <> 0
        ), step AS (
          SELECT a.user_id, a.seq, a.points,
                 lag(a.points) OVER (PARTITION BY a.user_id ORDER BY a.seq) AS before
          FROM award a
        ), score AS (
          SELECT a.user_id,
                 CASE $1 WHEN 'sum' THEN sum(a.points)::bigint
                         WHEN 'best' THEN $2 * min($2 * a.points)
                         ELSE (array_agg(a.points ORDER BY a.seq DESC))[1] END AS score,
                 CASE $1 WHEN 'sum' THEN max(a.seq)
                         WHEN 'best' THEN (array_agg(a.seq ORDER BY $2 * a.points, a.seq))[1]
                         ELSE max(a.seq) FILTER (WHERE a.points IS DISTINCT FROM a.before)
                         END AS seq
          FROM step a JOIN scores.players p ON p.user_id = a.user_id AND NOT p.hidden
          GROUP BY a.user_id
        )
        SELECT row_number() OVER (ORDER BY $2 * s.score, s.seq) AS position,
               s.user_id, s.score, s.seq,
               CASE $3 WHEN 'shared' THEN rank() OVER (ORDER BY $2 * s.score)
                       WHEN 'dense' THEN dense_rank() OVER (ORDER BY $2 * s.score)
                       ELSE row_number() OVER (ORDER BY $2 * s.score, s.seq) END AS rank
        FROM score s ORDER BY $2 * s.score, s.seq
        """,
        board.operator.value,
        sign,
        board.ties.value,
    )
    return [Line(r["position"], str(r["user_id"]), r["score"], r["seq"], r["rank"]) for r in rows]


def boards(**rules: Any) -> list[Board]:
    """A board of each operator, order and tie rule."""
    return [
        Board(
            name=f"{operator}-{order[:4]}-{ties}"[:32],
            title="Of the model",
            operator=operator,
            order=order,
            ties=ties,
            **rules,
        )
        for operator in Operator
        for order in Order
        for ties in Ties
    ]


async def add(scores: Scores, found: list[Board]) -> None:
    """Adds boards, shown and complete; nothing is awarded yet."""
    for board in found:
        assert await scores.boards.store.add_board(board)
        await scores.upkeep.store.list_board(board.name)
    await scores.registry.refresh()
    await scores.upkeep.rebuild.work()


@dataclass(frozen=True)
class Reader:
    """Every read of one board and period, held against the model."""

    scores: Scores
    board: Board
    period: str = ""
    degraded: bool = False

    async def agrees(self, model: list[Line], absent: str) -> None:
        """Asserts that top, pages, around, ranks and would-be say what the model says."""
        await self._top(model)
        await self._pages(model)
        await self._around(model, absent)
        await self._ranks(model, absent)
        await self._would_be(model)

    async def top(self, limit: int = 100, **how: Any) -> scores_pb2.Top:
        """The first entries, or the next page."""
        item = scores_pb2.TopItem(board=self.board.name, limit=limit, period=self.period, **how)
        reply = await self.scores.stub.Top(scores_pb2.TopRequest(items=[item]))
        assert not reply.results[0].failure.code, reply.results[0].failure
        top: scores_pb2.Top = reply.results[0].top
        return top

    async def _top(self, model: list[Line]) -> None:
        for fresh in (True, False):
            top = await self.top(fresh=fresh)
            assert _entries(top.entries) == _shown(model[:100])
            assert (top.total, top.degraded) == (len(model), self.degraded)

    async def _pages(self, model: list[Line]) -> None:
        found: list[_Shown] = []
        cursor = ""
        while True:
            page = await self.top(limit=7, cursor=cursor)
            found += _entries(page.entries)
            assert page.degraded == self.degraded
            cursor = page.next_cursor
            if not cursor:
                break
        assert found == _shown(model)

    async def _around(self, model: list[Line], absent: str) -> None:
        radii = [i % 5 for i in range(len(model))]
        wanted = [(line.user_id, radius) for line, radius in zip(model, radii, strict=True)]
        reply = await self.scores.stub.Around(
            scores_pb2.AroundRequest(
                items=[
                    scores_pb2.AroundItem(
                        board=self.board.name, period=self.period, user_id=user, radius=radius
                    )
                    for user, radius in [*wanted, (absent, 1)]
                ]
            )
        )
        for i, (line, radius) in enumerate(zip(model, radii, strict=True)):
            place = reply.results[i].place
            assert (place.rank, place.score, place.total) == (line.rank, line.score, len(model))
            assert place.behind == self._behind(model, i)
            to_next = place.points_to_next if place.HasField("points_to_next") else None
            assert to_next == self._to_next(model, i)
            near = model[max(0, i - radius) : i + radius + 1]
            assert _entries(place.neighbours) == _shown(near)
            assert place.degraded == self.degraded
        assert reply.results[-1].failure.code == "NOT_RANKED"

    async def _ranks(self, model: list[Line], absent: str) -> None:
        users = [line.user_id for line in model[::-1][:199]]
        reply = await self.scores.stub.Ranks(
            scores_pb2.RanksRequest(
                board=self.board.name, period=self.period, user_ids=[absent, *users]
            )
        )
        assert _entries(reply.entries) == _shown(model[::-1][:199])
        assert reply.degraded == self.degraded

    async def _would_be(self, model: list[Line]) -> None:
        near = {line.score + step for line in model for step in (-1, 0, 1)}
        scores = [s for s in [*sorted(near)[:12], 2**53 - 1, 1 - 2**53] if s < 2**53]
        items = [
            scores_pb2.WouldBeItem(board=self.board.name, score=score, period=self.period)
            for score in scores
        ]
        reply = await self.scores.stub.WouldBe(scores_pb2.WouldBeRequest(items=items))
        for score, result in zip(scores, reply.results, strict=True):
            found = result.would_be
            assert (found.rank, found.total) == (self._would_rank(model, score), len(model))
            assert found.degraded == self.degraded

    def _better(self, one: int, other: int) -> bool:
        return one > other if self.board.descending else one < other

    def _behind(self, model: list[Line], i: int) -> int:
        if self.board.ties is Ties.FIRST_TO_REACH:
            return len(model) - i - 1
        return sum(self._better(model[i].score, line.score) for line in model)

    def _to_next(self, model: list[Line], i: int) -> int | None:
        score = model[i].score
        if self.board.ties is Ties.FIRST_TO_REACH:
            return abs(model[i - 1].score - score) + 1 if i else None
        ahead = [line.score for line in model if self._better(line.score, score)]
        return min((abs(other - score) for other in ahead), default=None)

    def _would_rank(self, model: list[Line], score: int) -> int:
        ahead = [line.score for line in model if self._better(line.score, score)]
        match self.board.ties:
            case Ties.FIRST_TO_REACH:
                return 1 + len(ahead) + sum(line.score == score for line in model)
            case Ties.SHARED:
                return 1 + len(ahead)
        return 1 + len(set(ahead))


_Shown = tuple[int, str, int, int]


def _entries(found: Any) -> list[_Shown]:
    return [(entry.position, entry.user_id, entry.rank, entry.score) for entry in found]


def _shown(model: list[Line]) -> list[_Shown]:
    return [(line.position, line.user_id, line.rank, line.score) for line in model]
