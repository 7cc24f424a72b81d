"""The boards there are and their rules: public, and added by administrators."""

from typing import Annotated

from msgspec import Meta, field
from msgspec.structs import asdict

from gateway.api.answers import Answer, answer
from gateway.api.claims import Name, Small, Title
from gateway.edge.body import Body
from gateway.edge.identity import ANONYMOUS
from gateway.edge.request import Request
from protos import scores_pb2
from protos.scores_pb2_grpc import ScoresStub


class Reset(Body):
    """When a board begins again: `none`, or each `day`, `week` or `month`, `at` that time."""

    every: Name
    at: Name = "00:00"


class NewBoard(Body):
    """A board to be added; scores judges whether it makes sense."""

    board: Name
    title: Title
    operator: Name = "sum"
    order: Name = "descending"
    ties: Name = "first_to_reach"
    action_types: Annotated[list[Name], Meta(max_length=64)] = field(default_factory=list)
    reset: Reset = field(default_factory=lambda: Reset(every="none"))
    zone: Name = "UTC"
    window: Small = 10
    public: bool = True


class Board(Answer):
    """A board's rules, and when it begins again. No action types: all of them count."""

    board: str
    title: str
    operator: str
    order: str
    ties: str
    action_types: list[str]
    reset: Reset
    zone: str
    window: int
    public: bool
    resets_at: str | None


class BoardList(Answer):
    """All boards."""

    boards: list[Board]


class BoardRules:
    """Handlers of the list of boards."""

    def __init__(self, scores: ScoresStub) -> None:
        self._scores = scores

    async def boards(self, request: Request) -> BoardList:
        """The boards that the caller may read."""
        found = await self._all(request)
        known = request.caller is not ANONYMOUS
        return BoardList([board for board in found if known or board.public])

    async def every_board(self, request: Request) -> BoardList:
        """All boards."""
        return BoardList(await self._all(request))

    async def create(self, request: Request, body: NewBoard) -> Board:
        """Adds a board."""
        rules = {**asdict(body), "reset": body.reset.every, "reset_at": body.reset.at}
        return _board(await self._scores.CreateBoard(scores_pb2.Board(**rules)))

    async def _all(self, request: Request) -> list[Board]:
        reply = await self._scores.Boards(scores_pb2.BoardsRequest())
        return [_board(found) for found in reply.boards]


def _board(found: scores_pb2.Board) -> Board:
    return answer(Board, found, reset=Reset(every=found.reset, at=found.reset_at))
