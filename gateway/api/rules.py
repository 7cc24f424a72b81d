"""The boards there are and their rules: public, and added by administrators."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, field
from msgspec.structs import asdict

from chassis.errors import FieldError, Unprocessable
from gateway.api.answers import Answer, answer
from gateway.api.claims import Name, Small, Title
from gateway.edge.body import Body
from gateway.edge.errors import ValidationFailed
from gateway.edge.identity import ANONYMOUS
from gateway.edge.request import Request
from gateway.upstreams import Upstreams
from protos import actions_pb2, scores_pb2


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

    def __init__(self, upstreams: Upstreams) -> None:
        self._scores, self._actions = upstreams.scores, upstreams.actions

    async def boards(self, request: Request) -> BoardList:
        """The boards that the caller may read."""
        found = await self._all(request)
        known = request.caller is not ANONYMOUS
        return BoardList([board for board in found if known or board.public])

    async def every_board(self, request: Request) -> BoardList:
        """All boards."""
        return BoardList(await self._all(request))

    async def create(self, request: Request, body: NewBoard) -> Board:
        """Adds a board. Raises ValidationFailed."""
        rules = {**asdict(body), "reset": body.reset.every, "reset_at": body.reset.at}
        board = scores_pb2.Board(**rules)
        if unknown := await self._unknown(body.action_types):
            problems = {error.field: error for error in await self._problems(board)}
            problems |= {error.field: error for error in unknown if error.field not in problems}
            raise ValidationFailed(errors=list(problems.values()))
        return _board(await self._scores.CreateBoard(board))

    async def _unknown(self, names: Sequence[str]) -> list[FieldError]:
        """Those of the action types that do not exist."""
        if not names:
            return []
        reply = await self._actions.Catalogue(actions_pb2.CatalogueRequest(needed=names))
        known = {found.action_type for found in reply.types}
        return [
            FieldError(f"actionTypes[{place}]", "UNKNOWN", "There is no such action type.")
            for place, name in enumerate(names)
            if name not in known
        ]

    async def _problems(self, board: scores_pb2.Board) -> Sequence[FieldError]:
        """What scores refuses the board for."""
        try:
            await self._scores.CheckBoard(board)
        except Unprocessable as refused:
            return refused.errors
        return ()

    async def _all(self, request: Request) -> list[Board]:
        reply = await self._scores.Boards(scores_pb2.BoardsRequest())
        return [_board(found) for found in reply.boards]


def _board(found: scores_pb2.Board) -> Board:
    return answer(Board, found, reset=Reset(every=found.reset, at=found.reset_at))
