"""Boards that an admin adds: checked, filled from the ledger beside the awards, then listed."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from chassis.errors import Conflict, FieldError
from chassis.redis import UNAVAILABLE, Redis
from chassis.redis.lease import Lease
from chassis.telemetry import log
from protos import scores_pb2
from services.scores.boards import Boards
from services.scores.boards.registry import BoardNotFound
from services.scores.boards.rules import (
    WINDOW_MIN,
    Board,
    Known,
    Operator,
    Order,
    Reset,
    Ties,
    ValidationFailed,
)
from services.scores.reads import answers
from services.scores.upkeep.rebuild import Interrupted, Rebuild
from services.scores.upkeep.store import UpkeepStore

BOARDS_MAX = 50  # every award checks whether it counts on each of them
PLAYERS_AT_ONCE = 200  # awards to them wait while they are counted
ANSWER_S = 3.0  # how long `create` waits for the board to be listed
LOOK_S = 0.5
LEASE_S = 10.0

Word = TypeVar("Word", bound=StrEnum)


class BoardExists(Conflict):
    """There is a board of that name."""


class TooManyBoards(Conflict):
    """There are as many boards as there may be."""


class Filling:
    """One of all replicas fills. Methods raise RedisError and DbUnavailable."""

    def __init__(self, redis: Redis, boards: Boards, store: UpkeepStore, rebuild: Rebuild) -> None:
        self._boards = boards.store
        self._registry = boards.registry
        self._store = store
        self._rebuild = rebuild
        self._lease = Lease(redis, "lease:scores:filling", ttl_s=LEASE_S)
        self._added = asyncio.Event()

    async def create(self, request: scores_pb2.Board) -> scores_pb2.Board:
        """Adds a board. Returns it once it is listed, or after three seconds, when it is still
        being filled.

        Raises ValidationFailed, BoardExists or TooManyBoards.
        """
        board = checked(request)
        await self._registry.refresh()  # another replica may have added some
        if len(self._registry.all()) >= BOARDS_MAX:
            raise TooManyBoards(f"There are {BOARDS_MAX} boards already.")
        if not await self._boards.add_board(board):
            raise BoardExists
        log.info("board_added", stream="audit", board=board.name)
        await self._registry.refresh()
        self._added.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while not self._known(board.name).listed:
                    await asyncio.sleep(0.05)
                    await self._registry.refresh()
        return answers.board(self._known(board.name))

    async def run(self) -> None:
        """Fills what is to be filled, forever."""
        try:
            while True:
                self._added.clear()
                try:
                    await self.work()
                except Exception as error:
                    log.warning("filling_interrupted", error=repr(error))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._added.wait()
        finally:
            with suppress(*UNAVAILABLE):
                await self._lease.release()

    async def work(self) -> None:
        """One pass over the boards that are not listed; goes on where the last one ended."""
        unlisted = await self._store.unlisted()
        if not unlisted:
            return
        fence = await self._lease.hold()
        if not fence:
            return
        await self._registry.refresh()
        for name, upto in unlisted:
            await self._fill(name, upto, fence)

    async def _fill(self, name: str, upto: str | None, fence: int) -> None:
        """Counts all players again for the board, builds it in Redis, lists it.

        An award made meanwhile counts there: it sees the board, or the counting sees the award,
        since both lock the player.
        """
        players, done = await self._store.players(), 0
        log.info("filling_began", board=name, players=players, after=upto)
        while users := await self._store.users(after=upto, limit=PLAYERS_AT_ONCE):
            await self._store.refill(users)
            upto = users[-1]
            await self._store.filled(name, upto=upto)
            if await self._lease.hold() != fence:
                raise Interrupted
            done += len(users)
            if done % 10_000 < PLAYERS_AT_ONCE:
                log.info("filling_progressed", board=name, done=done, players=players)
        await self._rebuild.complete(self._known(name).open(), self._lease, fence)
        await self._store.list_board(name)
        await self._registry.refresh()
        log.info("board_listed", stream="audit", board=name, players=done)

    def _known(self, name: str) -> Known:
        for known in self._registry.all():
            if known.board.name == name:
                return known
        raise BoardNotFound


def checked(request: scores_pb2.Board) -> Board:
    """The board. Raises ValidationFailed with every field that does not fit."""
    problems: list[FieldError] = []

    def word(field: str, text: str, words: type[Word], default: Word) -> Word:
        try:
            return words(text) if text else default
        except ValueError:
            problems.append(FieldError(field, "UNKNOWN", f"must be one of {', '.join(words)}"))
            return default

    board = Board(
        name=request.board,
        title=request.title,
        operator=word("operator", request.operator, Operator, Operator.SUM),
        order=word("order", request.order, Order, Order.DESCENDING),
        ties=word("ties", request.ties, Ties, Ties.FIRST_TO_REACH),
        action_types=tuple(request.action_types),
        every=word("reset.every", request.reset, Reset, Reset.NONE),
        reset_at=request.reset_at or "00:00",
        zone=request.zone or "UTC",
        window=request.window or WINDOW_MIN,
        public=request.public,
    )
    problems += board.problems()
    if problems:
        raise ValidationFailed(errors=problems)
    return replace(board, action_types=tuple(dict.fromkeys(board.action_types)))
