"""Boards as one would work them out by hand, to hold the whole service against."""

from dataclasses import dataclass, field
from itertools import takewhile

from services.scores.boards.rules import Board, Operator, Ties

SCORE_MAX = 2**53 - 1


@dataclass
class Play:
    """An award: whose, how much, on which day, and whether it counts."""

    action_id: str
    user: str
    points: int
    day: int
    seq: int
    in_force: bool = True


@dataclass(frozen=True)
class Spot:
    """A player's row: score, and the award that reached it."""

    user: str
    score: int
    seq: int


@dataclass
class Model:
    """All that ever happened, in order."""

    plays: list[Play] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    day: int = 0
    frozen: dict[tuple[str, int], list[Spot]] = field(default_factory=dict)

    def total(self, user: str, *, with_voided: bool = False) -> int:
        """The player's points, of all days."""
        return sum(p.points for p in self.plays if p.user == user and (p.in_force or with_voided))

    def spot(self, board: Board, user: str, day: int | None) -> Spot | None:
        """Where the awards in force put a player; `day` None: of all days."""
        plays = [p for p in self.plays if p.user == user and p.in_force and day in (None, p.day)]
        if not plays:
            return None
        if board.operator is Operator.SUM:
            return Spot(user, sum(p.points for p in plays), plays[-1].seq)
        if board.operator is Operator.LATEST:
            # Of the equal ones in a row the first reached the score.
            run = takewhile(lambda play: play.points == plays[-1].points, reversed(plays))
            return Spot(user, plays[-1].points, list(run)[-1].seq)
        best = (max if board.descending else min)(p.points for p in plays)
        return Spot(user, best, next(p.seq for p in plays if p.points == best))

    def table(self, board: Board, day: int | None) -> list[Spot]:
        """Who is on the board, in its order."""
        users = {p.user for p in self.plays} - self.hidden
        spots = [spot for user in users if (spot := self.spot(board, user, day))]
        sign = -1 if board.descending else 1
        return sorted(spots, key=lambda spot: (sign * spot.score, spot.seq))

    def removed(self, board: Board, day: int) -> set[str]:
        """Who is marked in the final table of a day."""
        return {
            spot.user
            for spot in self.frozen[board.name, day]
            if spot.user in self.hidden or self.spot(board, spot.user, day) != spot
        }


def better(board: Board, one: int, other: int) -> bool:
    """Whether a score is ahead of another."""
    return one > other if board.descending else one < other


def rank(board: Board, table: list[Spot], i: int) -> int:
    """The rank of the row at that index."""
    ahead = [spot.score for spot in table if better(board, spot.score, table[i].score)]
    if board.ties is Ties.FIRST_TO_REACH:
        return i + 1
    return 1 + len(ahead if board.ties is Ties.SHARED else set(ahead))


def behind(board: Board, table: list[Spot], i: int) -> int:
    """How many are strictly behind: the percentile's numerator."""
    if board.ties is Ties.FIRST_TO_REACH:
        return len(table) - i - 1
    return sum(better(board, table[i].score, spot.score) for spot in table)


def would_be(board: Board, table: list[Spot], score: int) -> int:
    """The rank of one who reached the score now."""
    ahead = [spot.score for spot in table if better(board, spot.score, score)]
    if board.ties is Ties.FIRST_TO_REACH:
        return 1 + len(ahead) + sum(spot.score == score for spot in table)
    return 1 + len(ahead if board.ties is Ties.SHARED else set(ahead))
