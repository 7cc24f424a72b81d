"""Reads of boards: what may be asked, and which store answers."""

from collections.abc import Sequence

from redis.exceptions import RedisError

from chassis.errors import Missing, Unauthenticated, Unavailable
from services.scores.live import Live, Where
from services.scores.ranking import Found, Page, Place, WouldBe
from services.scores.registry import Registry


class NotRanked(Missing):
    """This player is not on the board."""


class BoardsUnavailable(Unavailable):
    """The boards are away."""


class Reads:
    """Reads of every board and period. Methods raise BoardsUnavailable when no store can tell."""

    def __init__(self, registry: Registry, live: Live) -> None:
        self._registry = registry
        self._live = live

    def where(self, board: str, period: str, *, anonymous: bool) -> Where:
        """The board and its period, for one who has no access token or who has.

        Raises BoardNotFound, PeriodNotFound, or Unauthenticated for a board that is not public.
        """
        known = self._registry.get(board)
        if anonymous and not known.board.public:
            raise Unauthenticated("This board is shown to players only.")
        return known.board, self._registry.period(known, period)

    async def top(self, where: Where, limit: int, *, fresh: bool) -> Page:
        """The first entries."""
        try:
            page = await self._live.top(where, limit, fresh=True)
        except (RedisError, OSError):
            raise BoardsUnavailable from None
        if page is None:
            raise BoardsUnavailable
        return page

    async def around(self, asked: Sequence[tuple[Where, str, int]]) -> list[Place | None]:
        """The places of players (board and period, user id, radius); None: not on the board."""
        try:
            found = await self._live.around(asked)
        except (RedisError, OSError):
            raise BoardsUnavailable from None
        if None in found:
            raise BoardsUnavailable
        return [answer[0] for answer in found if answer]

    async def ranks(self, where: Where, users: Sequence[str]) -> Found:
        """The rows of those players who are on the board."""
        try:
            found = await self._live.ranks(where, users)
        except (RedisError, OSError):
            raise BoardsUnavailable from None
        if found is None:
            raise BoardsUnavailable
        return found

    async def would_be(self, where: Where, score: int) -> WouldBe:
        """The rank that a score would have."""
        try:
            found = await self._live.would_be(where, score)
        except (RedisError, OSError):
            raise BoardsUnavailable from None
        if found is None:
            raise BoardsUnavailable
        return found
