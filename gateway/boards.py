"""Leaderboards: their tops, one's place, and the ranks of friends."""

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from chassis.errors import FieldError
from gateway.answers import Answer, optional, rfc3339
from gateway.body import Body
from gateway.errors import ValidationFailed
from gateway.resources import IDENTITY, UPSTREAMS
from gateway.upstreams import left_s
from protos import scores_pb2

MAIN_BOARD = "all_time"

UserId = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]


class Friends(Body):
    """Whose ranks are asked for."""

    user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=200)]


class Entry(Answer):
    """One row of a board."""

    rank: int
    user_id: str
    username: str
    score: int
    reached_at: str


class Neighbour(Answer):
    """One row around a player, `own` on the player's."""

    rank: int
    user_id: str
    username: str
    score: int
    reached_at: str
    own: bool


class Top(Answer):
    """The best of a board."""

    board: str
    period: str
    entries: list[Entry]
    total: int
    updated_at: str
    degraded: bool
    resets_at: str | None


class Place(Answer):
    """A player's place; `percentile` is the share of players strictly behind."""

    board: str
    period: str
    user_id: str
    rank: int
    score: int
    percentile: float
    total: int
    points_to_next_rank: int | None
    neighbours: list[Neighbour]
    degraded: bool


class Board(Answer):
    """A board's rules, and when it begins anew."""

    board: str
    title: str
    operator: str
    order: str
    ties: str
    reset: str
    window: int
    public: bool
    resets_at: str | None


class Boards(Answer):
    """All boards."""

    boards: list[Board]


class Ranks(Answer):
    """The rows of those asked for who are ranked."""

    board: str
    entries: list[Entry]


async def main(request: web.Request) -> Top:
    """The top of the main board."""
    return await _top(request, MAIN_BOARD)


async def top(request: web.Request) -> Top:
    """The top of a board."""
    return await _top(request, request.match_info["board"])


async def boards(request: web.Request) -> Boards:
    """The boards."""
    reply = await request.app[UPSTREAMS].scores.Boards(scores_pb2.BoardsRequest())
    return Boards([_board(found) for found in reply.boards])


async def place(request: web.Request) -> Place:
    """A player's place and neighbours."""
    return await _place(request, request.match_info["user_id"])


async def own_place(request: web.Request) -> Place:
    """The caller's place and neighbours."""
    return await _place(request, request[IDENTITY].user_id)


async def ranks(request: web.Request, body: Friends) -> Ranks:
    """The ranks of up to 200 players."""
    board = request.match_info["board"]
    reply = await request.app[UPSTREAMS].scores.Ranks(
        scores_pb2.RanksRequest(board=board, user_ids=body.user_ids)
    )
    return Ranks(board, [_entry(found) for found in reply.entries])


async def _top(request: web.Request, board: str) -> Top:
    limit = _number(request, "limit", default=10, low=1, high=100)
    found = await request.app[UPSTREAMS].top.submit(
        scores_pb2.TopItem(board=board, limit=limit), timeout_s=left_s()
    )
    return Top(
        board=found.board,
        period=found.period,
        entries=[_entry(entry) for entry in found.entries],
        total=found.total,
        updated_at=rfc3339(found.updated_at_ms),
        degraded=found.degraded,
        resets_at=optional(found.resets_at_ms if found.HasField("resets_at_ms") else None),
    )


async def _place(request: web.Request, user_id: str) -> Place:
    radius = _number(request, "radius", default=5, low=0, high=50)
    found = await request.app[UPSTREAMS].around.submit(
        scores_pb2.AroundItem(board=request.match_info["board"], user_id=user_id, radius=radius),
        timeout_s=left_s(),
    )
    return Place(
        board=found.board,
        period=found.period,
        user_id=found.user_id,
        rank=found.rank,
        score=found.score,
        percentile=round(100 * found.behind / found.total, 1) if found.total else 0.0,
        total=found.total,
        points_to_next_rank=found.points_to_next if found.HasField("points_to_next") else None,
        neighbours=[
            Neighbour(
                rank=entry.rank,
                user_id=entry.user_id,
                username=entry.username,
                score=entry.score,
                reached_at=rfc3339(entry.reached_at_ms),
                own=entry.user_id == user_id,
            )
            for entry in found.neighbours
        ],
        degraded=found.degraded,
    )


def _entry(entry: scores_pb2.Entry) -> Entry:
    return Entry(
        rank=entry.rank,
        user_id=entry.user_id,
        username=entry.username,
        score=entry.score,
        reached_at=rfc3339(entry.reached_at_ms),
    )


def _board(found: scores_pb2.Board) -> Board:
    return Board(
        board=found.board,
        title=found.title,
        operator=found.operator,
        order=found.order,
        ties=found.ties,
        reset=found.reset,
        window=found.window,
        public=found.public,
        resets_at=optional(found.resets_at_ms if found.HasField("resets_at_ms") else None),
    )


def _number(request: web.Request, name: str, *, default: int, low: int, high: int) -> int:
    """A number of the query. Raises ValidationFailed."""
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
        detail = f"A whole number from {low} to {high}."
        raise ValidationFailed(errors=[FieldError(name, "OUT_OF_RANGE", detail)])
    return int(text)
