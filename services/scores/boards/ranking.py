"""What a read of a board answers, and the ranks that its ties give."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from chassis.errors import Missing
from services.scores.boards.rules import Board, Ties


class NotRanked(Missing):
    """This player is not on the board."""


class Entry(NamedTuple):
    """One row of a board; `seq` is the ledger's, of the award that reached the score.

    `position` counts from 1 in the board's order, in which no two players are level; `rank` is
    what the ties make of it. A tuple, since every read makes many: a frozen dataclass takes three
    times as long.
    """

    position: int
    rank: int
    user_id: str
    username: str
    score: int
    reached_at_ms: int
    seq: int
    removed: bool = False  # of a closed period: the ledger no longer says so


@dataclass(frozen=True, slots=True)
class After:
    """Where a page ends: the next one has what is strictly behind at that time."""

    score: int
    seq: int
    user_id: str


@dataclass(frozen=True, slots=True)
class Seal:
    """What a closed period's final table is known by."""

    closed_at_ms: int
    hash: bytes
    signature: bytes
    key_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some entries of a board and period in its order; `more`: there are others behind them."""

    version: int
    updated_at_ms: int | None  # None: never
    total: int
    entries: Sequence[Entry]
    more: bool
    degraded: bool = False
    seal: Seal | None = None

    def cut(self, limit: int) -> "Page":
        """The page with the first `limit` of its entries."""
        if len(self.entries) <= limit:
            return self
        return replace(self, entries=self.entries[:limit], more=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A player's place, and the rows around it with the player's own."""

    rank: int
    score: int
    total: int
    behind: int  # players strictly behind
    points_to_next: int | None  # None: at the top
    neighbours: Sequence[Entry]
    version: int  # of the player
    board_version: int
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Those of the players asked for who are on the board, in the order they were asked for."""

    entries: Sequence[Entry]
    board_version: int
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldBe:
    """The rank of a player who reached a score now, later than everybody else."""

    rank: int
    total: int
    board_version: int
    degraded: bool = False


def ranks(ties: Ties, scores: Iterable[int], *, first: int, rank: int) -> Iterator[int]:
    """The ranks of entries that follow each other, from the 0-based position `first` and its
    `rank` on."""
    before: int | None = None
    for position, score in enumerate(scores, first):
        if ties is Ties.FIRST_TO_REACH:
            rank = position + 1
        elif before is not None and score != before:
            rank = rank + 1 if ties is Ties.DENSE else position + 1
        before = score
        yield rank


def points_to_next(board: Board, score: int, ahead: int) -> int:
    """What it takes from `score` to the next better rank, which is that of the score `ahead`.

    Where an equal score reached later stays behind, it takes one more.
    """
    return abs(ahead - score) + (board.ties is Ties.FIRST_TO_REACH)
