"""Scores as these tests need it: boards that a test sets, served over real gRPC, calls counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from chassis import clock, errors
from chassis.errors import Missing, Unavailable
from chassis.ids import uuid7
from chassis.redis import Redis
from protos import events_pb2, scores_pb2
from protos.scores_pb2_grpc import ScoresServicer

BOARDS = ("all_time", "daily")


class PlayerUnranked(Missing):
    """The player has no place on this board."""


@dataclass
class FakeBoard:
    window: int = 10
    period: str = "all"
    resets_at_ms: int | None = None
    shared: bool = False  # equal scores share a rank
    updated_at_ms: int | None = None
    scores: dict[str, int] = field(default_factory=dict)  # by player, who reached theirs last last

    def add(self, user_id: str, points: int) -> None:
        self.scores[user_id] = self.scores.pop(user_id, 0) + points
        self.updated_at_ms = clock.now_ms()

    def entries(self) -> list[scores_pb2.Entry]:
        # Sorting is stable, so equal scores stand in the order in which they were reached.
        order = sorted(self.scores.items(), key=lambda item: -item[1])
        scores = [score for _, score in order]
        return [
            scores_pb2.Entry(
                position=position,
                rank=scores.index(score) + 1 if self.shared else position,
                user_id=user_id,
                username=user_id.upper(),
                score=score,
            )
            for position, (user_id, score) in enumerate(order, start=1)
        ]


class FakeScores(ScoresServicer):
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.boards = {name: FakeBoard() for name in BOARDS}
        self.versions: dict[str, int] = {}
        self.boards_calls = 0
        self.top_calls = 0
        self.around_calls = 0
        self.unavailable = False
        self.refused = 0
        self.called = asyncio.Event()  # Around was
        self._free = asyncio.Event()
        self._free.set()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Within it, requests for standings wait; the replies hold the standings at the request."""
        self.called.clear()
        self._free.clear()
        yield
        self._free.set()

    def use(self, redis: Redis) -> None:
        """Publishes awards in another Redis."""
        self._redis = redis

    async def award(self, *awards: tuple[str, int], at_ms: int | None = None) -> list[str]:
        """One batch of (player, points): every board moves, then one entry is published."""
        at_ms = at_ms or clock.now_ms()
        events = [self._applied(user_id, points, at_ms) for user_id, points in awards]
        await self.publish(*events)
        return [event.event_id for event in events]

    async def publish(self, *events: events_pb2.ScoreEvent) -> None:
        batch = events_pb2.ScoreEvents(events=events, boards=self.boards).SerializeToString()
        await self._redis.xadd("{events}:awards", {"batch": batch})

    def _applied(self, user_id: str, points: int, at_ms: int) -> events_pb2.ScoreEvent:
        scores = self.boards["all_time"].scores
        old = scores.get(user_id, 0)
        for board in self.boards.values():
            board.add(user_id, points)
        self.versions[user_id] = self.versions.get(user_id, 0) + 1
        return events_pb2.ScoreEvent(
            event_id=uuid7(),
            user_id=user_id,
            username=user_id.upper(),
            version=self.versions[user_id],
            points=points,
            old_score=old,
            new_score=old + points,
            at_ms=at_ms,
        )

    async def Boards(self, request: Any, context: Any) -> scores_pb2.BoardsReply:
        self._check()
        self.boards_calls += 1
        return scores_pb2.BoardsReply(
            boards=[
                scores_pb2.Board(board=name, window=board.window)
                for name, board in self.boards.items()
            ]
        )

    async def Top(self, request: scores_pb2.TopRequest, context: Any) -> scores_pb2.TopReply:
        self._check()
        self.top_calls += 1
        return scores_pb2.TopReply(results=[self._top(item) for item in request.items])

    def _top(self, item: scores_pb2.TopItem) -> scores_pb2.TopResult:
        board = self.boards[item.board]
        entries = board.entries()
        top = scores_pb2.Top(
            board=item.board,
            period=board.period,
            entries=entries[: item.limit],
            total=len(entries),
            updated_at_ms=board.updated_at_ms,
            resets_at_ms=board.resets_at_ms,
        )
        return scores_pb2.TopResult(top=top)

    async def Around(
        self, request: scores_pb2.AroundRequest, context: Any
    ) -> scores_pb2.AroundReply:
        self._check()
        reply = scores_pb2.AroundReply(results=[self._place(item) for item in request.items])
        self.around_calls += 1
        self.called.set()
        await self._free.wait()
        return reply

    def _place(self, item: scores_pb2.AroundItem) -> scores_pb2.AroundResult:
        for entry in self.boards[item.board].entries():
            if entry.user_id == item.user_id:
                place = scores_pb2.Place(
                    user_id=item.user_id,
                    rank=entry.rank,
                    score=entry.score,
                    version=self.versions[item.user_id],
                )
                return scores_pb2.AroundResult(place=place)
        return scores_pb2.AroundResult(failure=errors.to_proto(PlayerUnranked()))

    def _check(self) -> None:
        if self.unavailable:
            self.refused += 1
            raise Unavailable
