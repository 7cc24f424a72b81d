"""Reads of open periods from Postgres, while Redis cannot serve: the first ten thousand places."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

import cachetools

from chassis.errors import Unavailable
from chassis.postgres import DbUnavailable
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
from services.scores.boards.store import BoardStore
from services.scores.reads.store import Snapshot, SnapshotStore

PLACES = 10_000
KEPT_S = 2.0  # how long a snapshot is read from
KEPT_TIMES = 10  # or, if that is longer, so many times what it took to make
ASK_S = 0.05  # between two reads of what is not published to the boards
SNAPSHOTS_MAX = 8  # at once; the least recently used goes first


class BoardsUnavailable(Unavailable):
    """The boards are unavailable."""


class PeriodClosed(Exception):
    """The period has been closed: its final table serves."""


class Table:
    """The first rows of a board, with their ranks. What lies beyond raises BoardsUnavailable."""

    def __init__(self, board: Board, snapshot: Snapshot, kept_s: float) -> None:
        self.kept_s = kept_s
        self.version = snapshot.now_ms
        self.complete = len(snapshot.rows) == snapshot.total
        self._board = board
        self._snapshot = snapshot
        self._rows = snapshot.rows
        self._sign = -1 if board.descending else 1
        self._keys = [(self._sign * row.score, row.seq) for row in self._rows]
        self._ranks = list(ranks(board.ties, [row.score for row in self._rows], first=0, rank=1))
        self._positions = {row.user_id: i for i, row in enumerate(self._rows)}

    def page(self, limit: int, after: After | None) -> Page:
        """The first entries, or those strictly behind `after`."""
        first = 0
        if after:
            first = bisect_right(self._keys, (self._sign * after.score, after.seq))
        if first + limit > len(self._rows):
            self._need_all()
        entries = self._entries(range(first, min(first + limit, len(self._rows))))
        return Page(
            version=self.version,
            updated_at_ms=self._snapshot.updated_at_ms,
            total=self._snapshot.total,
            entries=entries,
            more=first + len(entries) < self._snapshot.total,
            degraded=True,
        )

    def around(self, user: str, radius: int) -> Place:
        """A player's place. Raises NotRanked for one who is not among these rows."""
        position = self._positions.get(user)
        if position is None:
            raise NotRanked
        first, stop = max(0, position - radius), position + radius + 1
        if stop > len(self._rows):
            self._need_all()
        row, board = self._rows[position], self._board
        ahead, behind = position - 1, self._snapshot.total - position - 1
        if board.ties is not Ties.FIRST_TO_REACH:
            ahead = self._reached(row.score, equal=False) - 1
            behind = self._snapshot.total - self._reached(row.score, equal=True)
        next_score = self._rows[ahead].score if ahead >= 0 else None
        return Place(
            rank=self._ranks[position],
            score=row.score,
            total=self._snapshot.total,
            behind=behind,
            points_to_next=(
                None if next_score is None else points_to_next(board, row.score, next_score)
            ),
            neighbours=self._entries(range(first, min(stop, len(self._rows)))),
            version=row.version,
            board_version=self.version,
            degraded=True,
        )

    def ranks(self, users: Sequence[str]) -> Found:
        """The rows of those players who are among these."""
        positions = [self._positions[user] for user in users if user in self._positions]
        return Found(entries=self._entries(positions), board_version=self.version, degraded=True)

    def would_be(self, score: int) -> WouldBe:
        """The rank that a score would have."""
        ties = self._board.ties
        position = self._reached(score, equal=ties is Ties.FIRST_TO_REACH)
        rank = position + 1
        if ties is Ties.DENSE:
            rank = self._ranks[position - 1] + 1 if position else 1
        return WouldBe(
            rank=rank,
            total=self._snapshot.total,
            board_version=self.version,
            degraded=True,
        )

    def missing(self, users: Sequence[str]) -> list[str]:
        """Those of them who may stand beyond these rows."""
        return [] if self.complete else [user for user in users if user not in self._positions]

    def _reached(self, score: int, *, equal: bool) -> int:
        """How many have a better score; `equal`: or that one."""
        key = self._sign * score
        if equal:
            count = bisect_right(self._keys, (key, _LAST))
        else:
            count = bisect_left(self._keys, (key, -1))
        if count == len(self._rows):
            self._need_all()
        return count

    def _entries(self, positions: Sequence[int]) -> list[Entry]:
        return [
            Entry(
                rank=self._ranks[i],
                user_id=row.user_id,
                username=row.username,
                score=row.score,
                reached_at_ms=row.at_ms,
                seq=row.seq,
            )
            for i, row in ((i, self._rows[i]) for i in positions)
        ]

    def _need_all(self) -> None:
        if not self.complete:
            raise BoardsUnavailable("Only the first places can be read now.", retry_after_s=1)


class DegradedReads:
    """Tables made of snapshots, each taken once for all who read it meanwhile.

    Reads raise PeriodClosed, BoardsUnavailable and DbUnavailable.
    """

    def __init__(self, snapshots: SnapshotStore, boards: BoardStore) -> None:
        self._snapshots = snapshots
        self._boards = boards
        self._tables: cachetools.TLRUCache[str, Table] = cachetools.TLRUCache(
            SNAPSHOTS_MAX,
            ttu=lambda _, table, now_s: now_s + table.kept_s,
            timer=asyncio.get_running_loop().time,
        )
        self._flights: dict[str, asyncio.Task[Table]] = {}
        self._shown: dict[str, int] = {}  # the versions of answers, by period
        self._published_ms = 0
        self._ask_at_s = 0.0

    async def page(self, period: Period, limit: int, after: After | None) -> Page:
        """The first entries, or those strictly behind `after`."""
        return (await self._table(period)).page(limit, after)

    async def around(self, period: Period, user: str, radius: int) -> Place:
        """A player's place. Raises NotRanked."""
        table = await self._table(period)
        await self._refuse_beyond(period, table, [user])
        return table.around(user, radius)

    async def ranks(self, period: Period, users: Sequence[str]) -> Found:
        """The rows of those players who are on the board."""
        table = await self._table(period)
        await self._refuse_beyond(period, table, users)
        return table.ranks(users)

    async def would_be(self, period: Period, score: int) -> WouldBe:
        """The rank that a score would have."""
        return (await self._table(period)).would_be(score)

    def drop_older(self, period: Period, version_min: int) -> None:
        """Forgets a table that is older: the next read takes another."""
        table = self._tables.get(period.tag)
        if table and table.version < version_min:
            self._tables.pop(period.tag, None)

    def overtaken(self, periods: Iterable[Period]) -> None:
        """Redis has served those periods since."""
        if self._tables:
            for period in periods:
                self._tables.pop(period.tag, None)

    async def published_since(self, at_ms: int) -> bool:
        """Whether the boards have every change made by then (Unix ms)."""
        now_s = asyncio.get_running_loop().time()
        if at_ms > self._published_ms and now_s >= self._ask_at_s:
            self._ask_at_s = now_s + ASK_S
            oldest_ms = await self._snapshots.oldest_unpublished_ms()
            self._published_ms = (
                at_ms if oldest_ms is None else max(self._published_ms, oldest_ms - 1)
            )
        return at_ms <= self._published_ms

    async def ahead_of_redis(self, periods: Sequence[Period]) -> bool:
        """Whether answers from here may have shown what is not in Redis yet.

        It may have been unreachable, and kept its data: then the relay has to catch up first.
        """
        if not self._shown:
            return False
        for period in periods:
            shown_ms = self._shown.get(period.tag, 0)
            try:
                if shown_ms and not await self.published_since(shown_ms):
                    return True
            except DbUnavailable:
                return False  # Redis is all there is
            self._shown.pop(period.tag, None)
        return False

    async def _table(self, period: Period) -> Table:
        table = self._tables.get(period.tag)
        if table is None:
            flight = self._flights.get(period.tag)
            if flight is None:
                flight = asyncio.create_task(self._take(period))
                self._flights[period.tag] = flight
                flight.add_done_callback(lambda _: self._flights.pop(period.tag, None))
            # One reader that gives up must not end it for the others.
            table = await asyncio.shield(flight)
        self._shown[period.tag] = table.version
        return table

    async def _take(self, period: Period) -> Table:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        snapshot = await self._snapshots.take(period, limit=PLACES)
        if snapshot is None:
            raise PeriodClosed
        # So that reading a large board costs Postgres a tenth of its time at most: a rebuild
        # needs the rest.
        kept_s = max(KEPT_S, KEPT_TIMES * (loop.time() - began_s))
        table = self._tables[period.tag] = Table(period.board, snapshot, kept_s)
        return table

    async def _refuse_beyond(self, period: Period, table: Table, users: Sequence[str]) -> None:
        """Raises BoardsUnavailable when one of them is on the board, and not in the table."""
        missing = table.missing(users)
        if not missing:
            return
        for standing in await self._boards.of(missing):
            here = (standing.board, standing.period) == (period.board.name, period.start_ms)
            if here and standing.seq and not standing.hidden:
                raise BoardsUnavailable(retry_after_s=1)


_LAST = 2**63
