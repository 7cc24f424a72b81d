"""Reads of closed periods: their final tables never change, but rows may be marked as removed."""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from chassis import clock
from services.scores.boards.ranking import (
    After,
    Entry,
    Found,
    Page,
    Place,
    WouldBe,
    points_to_next,
    ranks,
)
from services.scores.boards.rules import Board, Ties
from services.scores.periods.final_store import Closed, Finals, Level, Row
from services.scores.reads.live import Where

# What never changes of so many closed periods is remembered.
PERIODS_MAX = 64
REPLICATED_MS = 600_000  # beyond any lag that a replica may have
DENSE_MAX = 4  # of which the distinct scores, for boards whose ranks need them

T = TypeVar("T")


class ClosedReads:
    """Every method raises DbUnavailable when Postgres is away.

    The version of a closed board is the time of its closing.
    """

    def __init__(self, finals: Finals, replicated: Finals | None = None) -> None:
        """`replicated` may be some seconds old: it serves pages of what was closed long ago."""
        self._finals = finals
        self._replicated = replicated or finals
        self._closed: OrderedDict[tuple[str, int], Closed] = OrderedDict()
        self._scores: OrderedDict[tuple[str, int], array[int]] = OrderedDict()

    async def starting(self, board: Board, start_ms: int) -> Closed | None:
        """The closed period of that board that begins then."""
        found = self._closed.get((board.name, start_ms))
        if found is None:
            found = await self._finals.closed(board, start_ms)
            if found:
                _remember(self._closed, (board.name, start_ms), found, PERIODS_MAX)
        return found

    async def before(self, board: Board, start_ms: int) -> Closed | None:
        """The last closed period of that board that begins before."""
        return await self._finals.closed_before(board, start_ms)

    async def page(self, where: Where, limit: int, after: After | None) -> Page:
        """The first entries, or those strictly behind `after`."""
        closed = await self._known(where)
        first = 0 if after is None else await self._position(where, after)
        old = clock.now_ms() - closed.seal.closed_at_ms > REPLICATED_MS
        finals = self._replicated if old else self._finals
        rows = await finals.rows(*where, first=first + 1, last=first + limit)
        return Page(
            version=closed.seal.closed_at_ms,
            updated_at_ms=closed.seal.closed_at_ms,
            total=closed.players,
            entries=await self._entries(where, rows),
            more=first + len(rows) < closed.players,
            seal=closed.seal,
        )

    async def around(self, where: Where, user: str, radius: int) -> Place | None:
        """A player's place; None: not in the final table."""
        board, _ = where
        closed = await self._known(where)
        own = next(iter(await self._finals.of(*where, [user])), None)
        if own is None:
            return None
        rows = await self._finals.rows(
            *where, first=max(1, own.position - max(radius, 1)), last=own.position + radius
        )
        level = (await self._finals.levels(*where, [own.score]))[own.score]
        behind, ahead = closed.players - level.upto, level.next_score
        if board.ties is Ties.FIRST_TO_REACH:
            behind = closed.players - own.position
            ahead = next((row.score for row in rows if row.position == own.position - 1), None)
        shown = [row for row in rows if row.position >= own.position - radius]
        neighbours = await self._entries(where, shown)
        return Place(
            rank=next(entry.rank for entry in neighbours if entry.user_id == user),
            score=own.score,
            total=closed.players,
            behind=behind,
            points_to_next=None if ahead is None else points_to_next(board, own.score, ahead),
            neighbours=neighbours,
            version=own.version,
            board_version=closed.seal.closed_at_ms,
        )

    async def ranks(self, where: Where, users: Sequence[str]) -> Found:
        """The rows of those players who are in the final table."""
        closed = await self._known(where)
        rows = {row.user_id: row for row in await self._finals.of(*where, users)}
        levels = await self._finals.levels(*where, [row.score for row in rows.values()])
        entries = []
        for row in (rows[user] for user in users if user in rows):
            rank = await self._rank(where, row.position - 1, row.score, levels[row.score])
            entries.append(_entry(rank, row))
        return Found(entries=entries, board_version=closed.seal.closed_at_ms)

    async def would_be(self, where: Where, score: int) -> WouldBe:
        """The rank that a score would have had."""
        closed = await self._known(where)
        level = (await self._finals.levels(*where, [score]))[score]
        return WouldBe(
            rank=await self._rank(where, level.upto, score, level),
            total=closed.players,
            board_version=closed.seal.closed_at_ms,
        )

    async def _known(self, where: Where) -> Closed:
        board, period = where
        closed = await self.starting(board, period.start_ms)
        if closed is None:
            raise LookupError(f"no closed period of {board.name} begins at {period.start_ms}")
        return closed

    async def _position(self, where: Where, after: After) -> int:
        """How many are not behind `after`."""
        own = next(iter(await self._finals.of(*where, [after.user_id])), None)
        if own and own.seq == after.seq:
            return own.position
        level = (await self._finals.levels(*where, [after.score]))[after.score]
        return level.ahead + await self._finals.reached_by(*where, after.score, after.seq)

    async def _rank(self, where: Where, position: int, score: int, level: Level) -> int:
        board, _ = where
        match board.ties:
            case Ties.FIRST_TO_REACH:
                return position + 1
            case Ties.SHARED:
                return level.ahead + 1
        scores = await self._distinct(where)
        if board.descending:
            return len(scores) - bisect_right(scores, score) + 1
        return bisect_left(scores, score) + 1

    async def _distinct(self, where: Where) -> "array[int]":
        board, period = where
        key = (board.name, period.start_ms)
        if key not in self._scores:
            _remember(self._scores, key, await self._finals.scores(board, period), DENSE_MAX)
        return self._scores[key]

    async def _entries(self, where: Where, rows: Sequence[Row]) -> list[Entry]:
        if not rows:
            return []
        board, first = where[0], rows[0]
        rank = first.position
        if board.ties is not Ties.FIRST_TO_REACH:
            level = (await self._finals.levels(*where, [first.score]))[first.score]
            rank = await self._rank(where, first.position - 1, first.score, level)
        numbers = ranks(board.ties, _scores(rows), first=first.position - 1, rank=rank)
        return [_entry(number, row) for number, row in zip(numbers, rows, strict=True)]


def _scores(rows: Iterable[Row]) -> Iterable[int]:
    return (row.score for row in rows)


def _entry(rank: int, row: Row) -> Entry:
    return Entry(rank, row.user_id, row.username, row.score, row.at_ms, row.seq, row.removed)


def _remember(
    kept: "OrderedDict[tuple[str, int], T]", key: tuple[str, int], found: T, most: int
) -> None:
    kept[key] = found
    if len(kept) > most:
        kept.popitem(last=False)
