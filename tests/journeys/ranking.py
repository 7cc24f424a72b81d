"""What a board must show, worked out from the awards alone: a model in plain Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Play:
    """An award that counts on the board."""

    user_id: str
    username: str
    points: int
    at: str  # RFC 3339


@dataclass(frozen=True)
class Row:
    """A player's standing; `reached` is the number of the play that brought the score."""

    user_id: str
    username: str
    score: int
    reached: int
    at: str


@dataclass(frozen=True, kw_only=True)
class Rules:
    """As a board has them."""

    operator: str = "sum"
    order: str = "descending"
    ties: str = "first_to_reach"

    def better(self, one: int, other: int) -> bool:
        """Whether `one` is ahead of `other` as a score."""
        return one > other if self.order == "descending" else one < other


class Ranking:
    """A board after these plays, which are in the order of the ledger."""

    def __init__(self, rules: Rules, plays: Sequence[Play]) -> None:
        self.rules = rules
        users = dict.fromkeys(play.user_id for play in plays)
        rows = [self._row(user, list(enumerate(plays))) for user in users]
        sign = -1 if rules.order == "descending" else 1
        self.rows = sorted(rows, key=lambda row: (sign * row.score, row.reached))

    def entries(self) -> list[dict[str, Any]]:
        """All rows as the API has them."""
        return [
            {
                "position": position,
                "rank": self.rank(row),
                "userId": row.user_id,
                "username": row.username,
                "score": row.score,
                "reachedAt": row.at,
            }
            for position, row in enumerate(self.rows, 1)
        ]

    def place(self, row: Row, *, radius: int) -> dict[str, Any]:
        """What the API says of a player's place, but for what it says of the board."""
        at, entries = self.rows.index(row), self.entries()
        near = range(max(0, at - radius), min(len(entries), at + radius + 1))
        return {
            "userId": row.user_id,
            "rank": self.rank(row),
            "score": row.score,
            "percentile": 1000 * self._behind(row) // len(self.rows) / 10,
            "total": len(self.rows),
            "pointsToNextRank": self._to_next(row),
            "neighbours": [entries[n] | {"own": n == at} for n in near],
        }

    def rank(self, row: Row) -> int:
        """The rank of a row."""
        if self.rules.ties == "first_to_reach":
            return self.rows.index(row) + 1
        return 1 + len(self._ahead_of(row.score))

    def would_be(self, score: int) -> int:
        """The rank of a player who reached that score after all others."""
        if self.rules.ties == "first_to_reach":
            return 1 + sum(not self.rules.better(score, row.score) for row in self.rows)
        return 1 + len(self._ahead_of(score))

    def _row(self, user: str, plays: list[tuple[int, Play]]) -> Row:
        own = [(number, play) for number, play in plays if play.user_id == user]
        number, play = own[-1]
        score = play.points
        if self.rules.operator == "sum":
            score = sum(each.points for _, each in own)
        elif self.rules.operator == "best":
            for number, play in reversed(own):  # so that the first of equals is what stays
                if not self.rules.better(score, play.points):
                    score, reached = play.points, (number, play)
            number, play = reached
        else:
            for number, play in reversed(own):  # so that the first of equals in a row is what stays
                if play.points != score:
                    break
                reached = number, play
            number, play = reached
        return Row(user, play.username, score, number, play.at)

    def _ahead_of(self, score: int) -> list[int]:
        """The better scores: of each player, or each once where ranks are dense."""
        better = [row.score for row in self.rows if self.rules.better(row.score, score)]
        return sorted(set(better)) if self.rules.ties == "dense" else better

    def _behind(self, row: Row) -> int:
        if self.rules.ties == "first_to_reach":
            return len(self.rows) - 1 - self.rows.index(row)
        return sum(self.rules.better(row.score, other.score) for other in self.rows)

    def _to_next(self, row: Row) -> int | None:
        """To pass who is directly ahead, or, where ranks are shared, to draw level with them."""
        if self.rules.ties == "first_to_reach":
            at = self.rows.index(row)
            return abs(self.rows[at - 1].score - row.score) + 1 if at else None
        better = [other.score for other in self.rows if self.rules.better(other.score, row.score)]
        return min(abs(score - row.score) for score in better) if better else None
