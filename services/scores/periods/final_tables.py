"""Reads of closed periods: their final tables never change, but rows may be marked as removed."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from cachetools import LRUCache

from chassis import clock
from services.scores.boards.ranking import (
    After,
    Entry,
    Found,
    NotRanked,
    Page,
    Place,
    WouldBe,
    points_to_next,
    ranks,
)
from services.scores.boards.rules import Board, Period, Ties
from services.scores.periods.final_store import FinalRow, FinalStore, Level
from services.scores.periods.store import Closed

# What never changes of so many closed periods is cached.
PERIODS_MAX = 64
REPLICATED_MS = 600_000  # beyond any lag that a replica may have
DENSE_MAX = 4  # of which the distinct scores, for boards whose ranks need them


class FinalTables:
    """Every method raises DbUnavailable, and PeriodNotFound for what is not closed.

    The version of a closed board is the time of its closing.
    """

    def __init__(self, store: FinalStore, replica: FinalStore) -> None:
        """`replica` may be some seconds old: it serves pages of what was closed long ago."""
        self._store = store
        self._replica = replica
        self._closed: LRUCache[tuple[str, int], Closed] = LRUCache(PERIODS_MAX)
        self._scores: LRUCache[str, array[int]] = LRUCache(DENSE_MAX)

    async def starting(self, board: Board, start_ms: int) -> Period:
        """The closed period of that board that begins then."""
        return _period(board, await self._known(board.name, start_ms))

    async def before(self, board: Board, start_ms: int) -> Period:
        """The last closed period of that board that begins before."""
        return _period(board, await self._store.closed_before(board.name, start_ms))

    async def page(self, period: Period, limit: int, after: After | None) -> Page:
        """The first entries, or those strictly behind `after`."""
        closed = await self._known(period.board.name, period.start_ms)
        first = 0 if after is None else await self._position(period, after)
        old = clock.now_ms() - closed.closed_at_ms > REPLICATED_MS
        store = self._replica if old else self._store
        rows = await store.rows(period, first=first + 1, last=first + limit)
        return Page(
            version=closed.closed_at_ms,
            updated_at_ms=closed.closed_at_ms,
            total=closed.players,
            entries=await self._entries(period, rows),
            more=first + len(rows) < closed.players,
            seal=closed,
        )

    async def around(self, period: Period, user: str, radius: int) -> Place:
        """A player's place. Raises NotRanked."""
        closed = await self._known(period.board.name, period.start_ms)
        own = next(iter(await self._store.of(period, [user])), None)
        if own is None:
            raise NotRanked
        rows = await self._store.rows(
            period, first=max(1, own.position - max(radius, 1)), last=own.position + radius
        )
        if period.board.ties is Ties.FIRST_TO_REACH:
            behind = closed.players - own.position
            ahead = next((row.score for row in rows if row.position == own.position - 1), None)
        else:
            level = (await self._store.levels(period, [own.score]))[own.score]
            behind, ahead = closed.players - level.upto, level.next_score
        shown = [row for row in rows if row.position >= own.position - radius]
        neighbours = await self._entries(period, shown)
        return Place(
            rank=next(entry.rank for entry in neighbours if entry.user_id == user),
            score=own.score,
            total=closed.players,
            behind=behind,
            points_to_next=(
                None if ahead is None else points_to_next(period.board, own.score, ahead)
            ),
            neighbours=neighbours,
            version=own.version,
            board_version=closed.closed_at_ms,
        )

    async def ranks(self, period: Period, users: Sequence[str]) -> Found:
        """The rows of those players who are in the final table."""
        closed = await self._known(period.board.name, period.start_ms)
        rows = {row.user_id: row for row in await self._store.of(period, users)}
        levels = await self._store.levels(period, [row.score for row in rows.values()])
        entries = []
        for row in (rows[user] for user in users if user in rows):
            rank = await self._rank(period, row.position - 1, row.score, levels[row.score])
            entries.append(_entry(rank, row))
        return Found(entries=entries, board_version=closed.closed_at_ms)

    async def would_be(self, period: Period, score: int) -> WouldBe:
        """The rank that a score would have had."""
        closed = await self._known(period.board.name, period.start_ms)
        level = (await self._store.levels(period, [score]))[score]
        return WouldBe(
            rank=await self._rank(period, level.upto, score, level),
            total=closed.players,
            board_version=closed.closed_at_ms,
        )

    async def _known(self, board: str, start_ms: int) -> Closed:
        found = self._closed.get((board, start_ms))
        if found is None:
            found = self._closed[board, start_ms] = await self._store.closed(board, start_ms)
        return found

    async def _position(self, period: Period, after: After) -> int:
        """How many are not behind `after`."""
        own = next(iter(await self._store.of(period, [after.user_id])), None)
        if own and own.seq == after.seq:
            return own.position
        level = (await self._store.levels(period, [after.score]))[after.score]
        return level.ahead + await self._store.reached_by(period, after.score, after.seq)

    async def _rank(self, period: Period, position: int, score: int, level: Level) -> int:
        match period.board.ties:
            case Ties.FIRST_TO_REACH:
                return position + 1
            case Ties.SHARED:
                return level.ahead + 1
        scores = self._scores.get(period.tag)
        if scores is None:
            scores = self._scores[period.tag] = await self._store.scores(period)
        if period.board.descending:
            return len(scores) - bisect_right(scores, score) + 1
        return bisect_left(scores, score) + 1

    async def _entries(self, period: Period, rows: Sequence[FinalRow]) -> list[Entry]:
        if not rows:
            return []
        board, first = period.board, rows[0]
        rank = first.position
        if board.ties is not Ties.FIRST_TO_REACH:
            level = (await self._store.levels(period, [first.score]))[first.score]
            rank = await self._rank(period, first.position - 1, first.score, level)
        scores = (row.score for row in rows)
        numbers = ranks(board.ties, scores, first=first.position - 1, rank=rank)
        return [_entry(number, row) for number, row in zip(numbers, rows, strict=True)]


def _period(board: Board, closed: Closed) -> Period:
    return Period(board, closed.start_ms, closed.end_ms, closed=True)


def _entry(rank: int, row: FinalRow) -> Entry:
    return Entry(
        position=row.position,
        rank=rank,
        user_id=row.user_id,
        username=row.username,
        score=row.score,
        reached_at_ms=row.at_ms,
        seq=row.seq,
        removed=row.removed,
    )
