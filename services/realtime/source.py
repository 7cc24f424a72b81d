"""The calls to scores: which boards there are, their windows, the standing of a player."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.errors import Failed, Missing, from_proto
from chassis.times import rfc3339
from protos import scores_pb2
from protos.scores_pb2_grpc import ScoresStub
from services.realtime.frames import UNRANKED, Entry, Standing, Window

TIMEOUT_S = 2.0
USER_BOARD = "all_time"  # the board of user channels
USERS_MAX = 100  # in one call


@dataclass(frozen=True, slots=True)
class Board:
    """A board and how many entries its live channel shows."""

    name: str
    window: int


@dataclass(frozen=True, slots=True)
class Top:
    """A board's window, and when (Unix ms) its period ends; None: never."""

    window: Window
    resets_at_ms: int | None


class Source:
    """Every method raises Failed when scores is unavailable."""

    def __init__(self, stub: ScoresStub) -> None:
        self._stub = stub

    async def boards(self) -> list[Board]:
        """Every board."""
        reply = await self._stub.Boards(scores_pb2.BoardsRequest(), timeout=TIMEOUT_S)
        return [Board(board.board, board.window) for board in reply.boards]

    async def tops(self, boards: Sequence[Board]) -> list[Top | Failed]:
        """Each board's present window, or why there is none."""
        request = scores_pb2.TopRequest(
            items=[
                # Never from a cache: it is compared with what was published last.
                scores_pb2.TopItem(board=board.name, limit=board.window, fresh=True)
                for board in boards
            ]
        )
        reply = await self._stub.Top(request, timeout=TIMEOUT_S)
        return [
            from_proto(result.failure) if result.HasField("failure") else _top(result.top)
            for result in reply.results
        ]

    async def standings(self, user_ids: Sequence[str], timeout_s: float) -> list[Standing | Failed]:
        """Where each player stands in all_time."""
        request = scores_pb2.AroundRequest(
            items=[
                scores_pb2.AroundItem(board=USER_BOARD, user_id=user_id, radius=0)
                for user_id in user_ids
            ]
        )
        reply = await self._stub.Around(request, timeout=timeout_s)
        return [_standing(result) for result in reply.results]


def _top(top: scores_pb2.Top) -> Top:
    window = Window(
        board=top.board,
        period=top.period,
        entries=tuple(
            Entry(
                rank=entry.rank, user_id=entry.user_id, username=entry.username, score=entry.score
            )
            for entry in top.entries
        ),
        total=top.total,
        updated_at=rfc3339(top.updated_at_ms),
    )
    return Top(window, top.resets_at_ms if top.HasField("resets_at_ms") else None)


def _standing(result: scores_pb2.AroundResult) -> Standing | Failed:
    if not result.HasField("failure"):
        place = result.place
        return Standing(score=place.score, rank=place.rank, version=place.version)
    failed = from_proto(result.failure)
    return UNRANKED if isinstance(failed, Missing) else failed
