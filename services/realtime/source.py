"""The calls to scores: which boards there are, their windows, the standing of a player."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chassis.clock import rfc3339
from chassis.errors import Failed, Missing, from_proto
from protos import scores_pb2
from protos.scores_pb2_grpc import ScoresStub
from services.realtime.frames import UNRANKED, Entry, Standing, Window

TIMEOUT_S = 2.0
USER_BOARD = "all_time"  # the board of user channels
USERS_MAX = 100  # in one call


@dataclass(frozen=True, slots=True)
class Top:
    """A board's window, and when (Unix ms) its period ends; None: never."""

    window: Window
    resets_at_ms: int | None


class Source:
    """Every method raises Failed when scores is unavailable."""

    def __init__(self, stub: ScoresStub) -> None:
        self._stub = stub

    async def windows(self) -> dict[str, int]:
        """How many entries the live channel of each board shows."""
        reply = await self._stub.Boards(scores_pb2.BoardsRequest(), timeout=TIMEOUT_S)
        return {board.board: board.window for board in reply.boards}

    async def tops(self, windows: Iterable[tuple[str, int]]) -> list[Top | Failed]:
        """The present window of each board, of so many entries, or why there is none."""
        # Never from a cache: it is compared with what was published last.
        items = [scores_pb2.TopItem(board=b, limit=limit, fresh=True) for b, limit in windows]
        reply = await self._stub.Top(scores_pb2.TopRequest(items=items), timeout=TIMEOUT_S)
        return [
            from_proto(result.failure) if result.HasField("failure") else _top(result.top)
            for result in reply.results
        ]

    async def standings(self, user_ids: Sequence[str], timeout_s: float) -> list[Standing | Failed]:
        """Where each player stands in all_time."""
        items = [scores_pb2.AroundItem(board=USER_BOARD, user_id=user_id) for user_id in user_ids]
        reply = await self._stub.Around(scores_pb2.AroundRequest(items=items), timeout=timeout_s)
        return [_standing(result) for result in reply.results]


def _top(top: scores_pb2.Top) -> Top:
    window = Window(
        board=top.board,
        period=top.period,
        entries=tuple(
            Entry(
                position=entry.position,
                rank=entry.rank,
                user_id=entry.user_id,
                username=entry.username,
                score=entry.score,
            )
            for entry in top.entries
        ),
        total=top.total,
        updated_at=rfc3339(top.updated_at_ms) if top.HasField("updated_at_ms") else None,
    )
    return Top(window, top.resets_at_ms if top.HasField("resets_at_ms") else None)


def _standing(result: scores_pb2.AroundResult) -> Standing | Failed:
    if not result.HasField("failure"):
        place = result.place
        return Standing(score=place.score, rank=place.rank, version=place.version)
    failed = from_proto(result.failure)
    return UNRANKED if isinstance(failed, Missing) else failed
