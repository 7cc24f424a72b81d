"""Reads of open periods from Postgres, while Redis cannot serve: the first ten thousand places."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import inf

from asyncpg import Record
from cachetools import TLRUCache

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
from services.scores.reads.store import SnapshotStore

PLACES = 10_000
KEPT_S = 2.0  # how long a snapshot is read from
KEPT_TIMES = 10  # or, if that is longer, so many times what it took to make
LOOK_S = 0.05  # between two reads of what is not published to the boards
SNAPSHOTS_MAX = 8  # at once; the least recently used goes first


class BoardsUnavailable(Unavailable):
    """The boards are unavailable."""


class PeriodClosed(Exception):
    """The period has been closed: its final table serves."""


class Table:
    """The first entries of a board. What lies beyond them raises BoardsUnavailable."""

    def __init__(self, board: Board, rows: Sequence[Record], kept_s: float) -> None:
        """`rows` are a snapshot's; see `SnapshotStore.take`."""
        self.kept_s = kept_s
        self.version: int = rows[0]["now_ms"]
        self._board = board
        self._updated_at_ms: int | None = rows[0]["updated_at_ms"]
        self._total: int = rows[0]["total"]
        self._rows = [row for row in rows if row["user_id"] is not None]
        self._complete = len(self._rows) == self._total
        self._sign = -1 if board.descending else 1
        self._keys = [(self._sign * row["score"], row["seq"]) for row in self._rows]
        numbers = ranks(board.ties, (row["score"] for row in self._rows), first=0, rank=1)
        self._entries = [
            Entry(
                position=position,
                rank=rank,
                user_id=row["user_id"],
                username=row["username"],
                score=row["score"],
                reached_at_ms=row["at_ms"],
                seq=row["seq"],
            )
            for position, (rank, row) in enumerate(zip(numbers, self._rows, strict=True), 1)
        ]
        self._positions = {entry.user_id: i for i, entry in enumerate(self._entries)}

    def page(self, limit: int, after: After | None) -> Page:
        """The first entries, or those strictly behind `after`."""
        first = bisect_right(self._keys, (self._sign * after.score, after.seq)) if after else 0
        entries = self._between(first, first + limit)
        return Page(
            version=self.version,
            updated_at_ms=self._updated_at_ms,
            total=self._total,
            entries=entries,
            more=first + len(entries) < self._total,
            degraded=True,
        )

    def around(self, user: str, radius: int) -> Place:
        """A player's place. Raises NotRanked for one who is not in the table."""
        position = self._positions.get(user)
        if position is None:
            raise NotRanked
        neighbours = self._between(max(0, position - radius), position + radius + 1)
        own, board = self._entries[position], self._board
        ahead, behind = position, self._total - position - 1
        if board.ties is not Ties.FIRST_TO_REACH:
            ahead = self._reached(own.score, equal=False)
            behind = self._total - self._reached(own.score, equal=True)
        next_score = self._entries[ahead - 1].score if ahead else None
        return Place(
            rank=own.rank,
            score=own.score,
            total=self._total,
            behind=behind,
            points_to_next=(
                None if next_score is None else points_to_next(board, own.score, next_score)
            ),
            neighbours=neighbours,
            version=self._rows[position]["version"],
            board_version=self.version,
            degraded=True,
        )

    def ranks(self, users: Sequence[str]) -> Found:
        """The entries of those players who are in the table."""
        entries = [
            self._entries[self._positions[user]] for user in users if user in self._positions
        ]
        return Found(entries=entries, board_version=self.version, degraded=True)

    def would_be(self, score: int) -> WouldBe:
        """The rank that a score would have."""
        ties = self._board.ties
        position = self._reached(score, equal=ties is Ties.FIRST_TO_REACH)
        rank = position + 1
        if ties is Ties.DENSE:
            rank = self._entries[position - 1].rank + 1 if position else 1
        return WouldBe(rank=rank, total=self._total, board_version=self.version, degraded=True)

    def missing(self, users: Sequence[str]) -> list[str]:
        """Those of them who may stand beyond the table."""
        return [] if self._complete else [user for user in users if user not in self._positions]

    def _reached(self, score: int, *, equal: bool) -> int:
        """How many have a better score; `equal`: or that one."""
        edge = inf if equal else -inf
        count = bisect_right(self._keys, (self._sign * score, edge))
        self._need(count + 1)
        return count

    def _between(self, first: int, stop: int) -> Sequence[Entry]:
        self._need(stop)
        return self._entries[first:stop]

    def _need(self, entries: int) -> None:
        if entries > len(self._entries) and not self._complete:
            raise BoardsUnavailable("Only the first places can be read now.")


class DegradedReads:
    """Tables made of snapshots, each taken once for all who read it meanwhile.

    Reads raise PeriodClosed, BoardsUnavailable and DbUnavailable.
    """

    def __init__(self, snapshots: SnapshotStore, boards: BoardStore) -> None:
        self._snapshots = snapshots
        self._boards = boards
        self._tables: TLRUCache[str, Table] = TLRUCache(
            SNAPSHOTS_MAX,
            ttu=lambda _, table, now_s: now_s + table.kept_s,
            timer=asyncio.get_running_loop().time,
        )
        self._flights: dict[str, asyncio.Task[Table]] = {}
        self._shown: dict[str, int] = {}  # the versions of answers, by period
        self._published_ms = 0
        self._look_at_s = 0.0

    async def page(self, period: Period, limit: int, after: After | None) -> Page:
        """The first entries, or those strictly behind `after`."""
        return (await self._table(period)).page(limit, after)

    async def around(self, period: Period, user: str, radius: int) -> Place:
        """A player's place. Raises NotRanked."""
        return (await self._table(period, [user])).around(user, radius)

    async def ranks(self, period: Period, users: Sequence[str]) -> Found:
        """The rows of those players who are on the board."""
        return (await self._table(period, users)).ranks(users)

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
        if at_ms > self._published_ms and now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_S
            oldest_ms = await self._snapshots.oldest_unpublished_ms()
            published_ms = at_ms if oldest_ms is None else oldest_ms - 1
            self._published_ms = max(self._published_ms, published_ms)
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

    async def _table(self, period: Period, users: Sequence[str] = ()) -> Table:
        """Raises BoardsUnavailable when one of `users` is on the board, and not in its table."""
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
        if missing := table.missing(users):
            for standing in await self._boards.of(missing):
                here = (standing.board, standing.period) == (period.board.name, period.start_ms)
                if here and standing.seq and not standing.hidden:
                    raise BoardsUnavailable
        return table

    async def _take(self, period: Period) -> Table:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        rows = await self._snapshots.take(period, limit=PLACES)
        if not rows:
            raise PeriodClosed
        # So that reading a large board costs Postgres a tenth of its time at most: a rebuild
        # needs the rest.
        kept_s = max(KEPT_S, KEPT_TIMES * (loop.time() - began_s))
        table = self._tables[period.tag] = Table(period.board, rows, kept_s)
        return table
