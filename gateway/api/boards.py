"""Leaderboards: their tops and pages, one's place, the ranks of friends, would-be ranks."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, field

from gateway.api.answers import Answer, answer
from gateway.api.claims import UserId
from gateway.api.etags import Etags
from gateway.edge.body import Body
from gateway.edge.identity import ANONYMOUS
from gateway.edge.request import Request
from gateway.upstreams import Upstreams, left_s
from protos import scores_pb2

MAIN_BOARD = "all_time"


class Friends(Body):
    """Whose ranks are wanted."""

    user_ids: Annotated[list[UserId], Meta(min_length=1, max_length=200)]


class Entry(Answer, kw_only=True, omit_defaults=True):
    """One row of a board; `removed` from a closed period by what came after it.

    `position` is the place in the board's order, `rank` what ties make of it.
    """

    position: int
    rank: int
    user_id: str
    username: str
    score: int
    reached_at: str
    removed: bool = False


class Neighbour(Entry, kw_only=True):
    """One row around a player, `own` on the player's."""

    own: bool


class Seal(Answer):
    """What a closed period's final table is known by; in hexadecimal digits."""

    hash: str
    signature: str
    key_id: int
    closed_at: str


class Top(Answer, omit_defaults=True):
    """A page of a board, from the best on."""

    board: str
    period: str
    entries: list[Entry]
    total: int
    updated_at: str | None  # None: never
    degraded: bool
    resets_at: str | None
    next_cursor: str | None
    seal: Seal | None = None


class Place(Answer):
    """A player's place; `percentile` is the share of players strictly behind, rounded down to one
    decimal."""

    board: str
    period: str
    user_id: str
    rank: int
    score: int
    percentile: float
    total: int
    points_to_next: int | None = field(name="pointsToNextRank")
    neighbours: list[Neighbour]
    degraded: bool


class Ranks(Answer):
    """The rows of those wanted who are ranked."""

    board: str
    period: str
    entries: list[Entry]
    degraded: bool


class WouldBe(Answer):
    """The rank of a player who reached `score` now."""

    board: str
    period: str
    score: int
    rank: int
    total: int
    degraded: bool


class Boards:
    """Handlers of reads of boards."""

    def __init__(self, upstreams: Upstreams, etags: Etags) -> None:
        self._upstreams = upstreams
        self._etags = etags

    async def top(self, request: Request) -> web.Response:
        """A page of a board, the main one where the address names none."""
        board = request.params.get("board", MAIN_BOARD)
        asked, seen = request.query["period"], request.seen
        item = scores_pb2.TopItem(
            board=board,
            limit=request.query["limit"],
            period=asked,
            cursor=request.query["cursor"],
            version_min=max(seen.version(board, asked), self._etags.version(request.http)),
            fresh=seen.fresh,
            anonymous=_anonymous(request),
        )
        found = await self._upstreams.top.submit(item, timeout_s=left_s())
        seen.show(board, asked, period=found.period, version=found.version)
        page = _page(found.SerializeToString())
        return self._etags.response(request.http, page, version=found.version)

    async def place(self, request: Request) -> Place:
        """A player's place and neighbours, the caller's where the address names none."""
        board, asked = request.params["board"], request.query["period"]
        user_id = request.params.get("user_id", request.caller.user_id)
        item = scores_pb2.AroundItem(
            board=board,
            user_id=user_id,
            radius=request.query["radius"],
            period=asked,
            anonymous=_anonymous(request),
        )
        found = await self._upstreams.around.submit(item, timeout_s=left_s())
        request.seen.show(board, asked, period=found.period, version=found.board_version)
        return answer(
            Place,
            found,
            percentile=_percentile(found),
            neighbours=[
                answer(Neighbour, entry, own=entry.user_id == user_id) for entry in found.neighbours
            ],
        )

    async def ranks(self, request: Request, body: Friends) -> Ranks:
        """The ranks of up to 200 players."""
        board, asked = request.params["board"], request.query["period"]
        wanted = scores_pb2.RanksRequest(
            board=board, user_ids=body.user_ids, period=asked, anonymous=_anonymous(request)
        )
        found = await self._upstreams.scores.Ranks(wanted)
        request.seen.show(board, asked, period=found.period, version=found.board_version)
        return answer(Ranks, found, board=board, entries=_entries(found.entries))

    async def would_be(self, request: Request) -> WouldBe:
        """The rank that a score would have."""
        board, asked = request.params["board"], request.query["period"]
        score = request.query["score"]
        item = scores_pb2.WouldBeItem(
            board=board, score=score, period=asked, anonymous=_anonymous(request)
        )
        found = await self._upstreams.would_be.submit(item, timeout_s=left_s())
        request.seen.show(board, asked, period=found.period, version=found.board_version)
        return answer(WouldBe, found, board=board, score=score)


@lru_cache(maxsize=256)
def _page(message: bytes) -> bytes:
    """A `scores.Top` as JSON: kept, since the same page goes to many."""
    found = scores_pb2.Top.FromString(message)
    page = answer(
        Top,
        found,
        entries=_entries(found.entries),
        next_cursor=found.next_cursor or None,
        seal=answer(Seal, found.seal) if found.HasField("seal") else None,
    )
    return msgspec.json.encode(page)


def _percentile(place: scores_pb2.Place) -> float:
    # Rounded down: 100 would claim that all players are behind, the player's own row too.
    tenths = 1000 * place.behind // max(place.total, 1)
    return tenths / 10


def _entries(found: Iterable[scores_pb2.Entry]) -> list[Entry]:
    return [answer(Entry, entry) for entry in found]


def _anonymous(request: Request) -> bool:
    """No access token was shown: boards that are not public are closed then."""
    return request.caller is ANONYMOUS
