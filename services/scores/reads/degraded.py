"""Reads of open periods from Postgres, while Redis cannot tell: the first ten thousand places."""

import asyncio
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from chassis.errors import Unavailable
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
from services.scores.boards.store import Standings
from services.scores.reads.live import Where
from services.scores.reads.store import Snapshot, Snapshots

PLACES = 10_000
KEPT_S = 2.0  # how long a snapshot is read from
KEPT_TIMES = 10  # or, if that is longer, so many times what it took to make
ASK_S = 0.05  # from one question for what the boards have not heard of to the next
SNAPSHOTS_MAX = 8  # at once; the one used longest ago goes first


class BoardsUnavailable(Unavailable):
    """The boards are away."""


class Table:
    """The first rows of a board, with their ranks. What lies beyond raises BoardsUnavailable."""

    def __init__(self, board: Board, snapshot: Snapshot) -> None:
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

    def around(self, user: str, radius: int) -> Place | None:
        """A player's place; None: not among these rows."""
        position = self._positions.get(user)
        if position is None:
            return None
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
        """Who of them may stand beyond these rows."""
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
            Entry(self._ranks[i], row.user_id, row.username, row.score, row.at_ms, row.seq)
            for i, row in ((i, self._rows[i]) for i in positions)
        ]

    def _need_all(self) -> None:
        if not self.complete:
            raise BoardsUnavailable("Only the first places can be told now.", retry_after_s=1)


class Fallback:
    """Tables made of snapshots, each taken once for all who ask.

    Methods raise DbUnavailable when Postgres is away.
    """

    def __init__(self, snapshots: Snapshots, standings: Standings) -> None:
        self._snapshots = snapshots
        self._standings = standings
        self._kept: OrderedDict[tuple[str, int], Table] = OrderedDict()
        self._flights: dict[tuple[str, int], asyncio.Task[Table | None]] = {}
        self._told_ms = 0
        self._asked_until = 0.0

    async def table(self, where: Where, *, version_min: int = 0) -> Table | None:
        """A board of an open period; None: it has been closed.

        A kept one that is older than `version_min` is taken anew.
        """
        board, period = where
        key = (board.name, period.start_ms)
        table = self._kept.get(key)
        if table and table.version >= version_min:
            self._kept.move_to_end(key)
            return table
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._take(where))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # Who gives up waiting must not end it for the others.
        return await asyncio.shield(flight)

    def overtaken(self, wheres: Iterable[Where]) -> None:
        """Redis has told of those boards since."""
        if self._kept:
            for board, period in wheres:
                self._kept.pop((board.name, period.start_ms), None)

    async def beyond(self, where: Where, table: Table, users: Sequence[str]) -> bool:
        """Whether one of those players is on the board, and not in the table."""
        missing = table.missing(users)
        if not missing:
            return False
        board, period = where
        return any(
            s.board == board.name and s.period == period.start_ms and s.seq and not s.hidden
            for s in await self._standings.of(missing)
        )

    async def told_since(self, at_ms: int) -> bool:
        """Whether the boards have acknowledged every change made by then (Unix ms)."""
        now = asyncio.get_running_loop().time()
        if at_ms > self._told_ms and now >= self._asked_until:
            self._asked_until = now + ASK_S
            oldest_ms = await self._snapshots.oldest_untold_ms()
            self._told_ms = at_ms if oldest_ms is None else max(self._told_ms, oldest_ms - 1)
        return at_ms <= self._told_ms

    async def _take(self, where: Where) -> Table | None:
        board, period = where
        loop = asyncio.get_running_loop()
        began = loop.time()
        snapshot = await self._snapshots.take(board, period, limit=PLACES)
        if snapshot is None:
            return None
        key, table = (board.name, period.start_ms), Table(board, snapshot)
        self._kept[key] = table
        self._kept.move_to_end(key)
        # So that reading a large board costs Postgres a tenth of its time at most, which those who
        # make the boards whole again need.
        kept_s = max(KEPT_S, KEPT_TIMES * (loop.time() - began))
        loop.call_later(kept_s, self._drop, key, table)
        if len(self._kept) > SNAPSHOTS_MAX:
            self._kept.popitem(last=False)
        return table

    def _drop(self, key: tuple[str, int], table: Table) -> None:
        if self._kept.get(key) is table:
            del self._kept[key]


_LAST = 2**63
