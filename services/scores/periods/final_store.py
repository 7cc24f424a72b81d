"""The final tables of closed periods."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chassis.postgres.replica import Reader
from services.scores.boards.ranking import Seal
from services.scores.boards.rules import Board, Period


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A closed period, its seal, and how many players its table has."""

    period: Period
    seal: Seal
    players: int


@dataclass(frozen=True, slots=True)
class FinalRow:
    """A row of a final table; `version` is the player's by now."""

    position: int  # from 1
    user_id: str
    username: str
    score: int
    seq: int
    at_ms: int
    removed: bool  # the ledger no longer says so, or the player is hidden
    version: int


@dataclass(frozen=True, slots=True)
class Level:
    """A score on a final table."""

    ahead: int  # how many are strictly ahead
    upto: int  # how many are strictly ahead or have it
    next_score: int | None  # the nearest that is strictly ahead


class FinalStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Reader) -> None:
        self._fetch = database.fetch

    async def closed(self, board: Board, start_ms: int) -> ClosedPeriod | None:
        """The closed period that begins then."""
        records = await self._fetch(f"{_CLOSED} AND p.period = $2", board.name, start_ms)
        return _closed(board, records[0]) if records else None

    async def closed_before(self, board: Board, start_ms: int) -> ClosedPeriod | None:
        """The last closed period that begins before."""
        records = await self._fetch(
            f"{_CLOSED} AND p.period < $2 ORDER BY p.period DESC LIMIT 1", board.name, start_ms
        )
        return _closed(board, records[0]) if records else None

    async def rows(self, period: Period, *, first: int, last: int) -> list[FinalRow]:
        """The rows from one position (from 1) to another."""
        records = await self._fetch(
            f"{_ROWS} AND f.position BETWEEN $3 AND $4 ORDER BY f.position",
            period.board.name,
            period.start_ms,
            first,
            last,
        )
        return [FinalRow(**record) for record in records]

    async def of(self, period: Period, users: Sequence[str]) -> list[FinalRow]:
        """The rows of those players who have one."""
        records = await self._fetch(
            f"{_ROWS} AND f.user_id = ANY ($3::uuid[])", period.board.name, period.start_ms, users
        )
        return [FinalRow(**record) for record in records]

    async def levels(self, period: Period, scores: Sequence[int]) -> dict[int, Level]:
        """How those scores stand, by score."""
        records = await self._fetch(
            _LEVELS, period.board.name, period.start_ms, list(set(scores)), period.board.descending
        )
        return {
            r["score"]: Level(r["ahead"], max(r["ahead"], r["upto"]), r["next_score"])
            for r in records
        }

    async def reached_by(self, period: Period, score: int, seq: int) -> int:
        """How many have that score and reached it by that sequence of the ledger."""
        (record,) = await self._fetch(
            """
            SELECT count(*) AS players FROM scores.finals f
            WHERE f.board = $1 AND f.period = $2 AND f.score = $3 AND f.seq <= $4
            """,
            period.board.name,
            period.start_ms,
            score,
            seq,
        )
        return int(record["players"])

    async def scores(self, period: Period) -> "array[int]":
        """The distinct scores, lowest first."""
        records = await self._fetch(
            "SELECT DISTINCT f.score FROM scores.finals f"
            " WHERE f.board = $1 AND f.period = $2 ORDER BY f.score",
            period.board.name,
            period.start_ms,
        )
        return array("q", (record["score"] for record in records))


_CLOSED = """
    SELECT p.period, (extract(epoch FROM p.ends) * 1000)::bigint AS end_ms,
           (extract(epoch FROM p.closed_at) * 1000)::bigint AS closed_at_ms,
           p.hash, p.signature, p.key_id, p.players
    FROM scores.periods p WHERE p.board = $1 AND p.closed_at IS NOT NULL
"""

_ROWS = """
    SELECT f.position, f.user_id::text AS user_id, coalesce(p.username, '') AS username, f.score,
           f.seq, (extract(epoch FROM f.reached_at) * 1000)::bigint AS at_ms,
           f.removed OR coalesce(p.hidden, false) AS removed, coalesce(p.version, 0) AS version
    FROM scores.finals f LEFT JOIN scores.players p ON p.user_id = f.user_id
    WHERE f.board = $1 AND f.period = $2
"""


# The last position of a score is the number of those who have it or a better one.
_LEVELS = """
    SELECT s.score, coalesce(up.score, down.score) AS next_score,
           coalesce(a.position, 0) AS ahead, coalesce(u.position, 0) AS upto
    FROM unnest($3::bigint[]) AS s(score)
    LEFT JOIN LATERAL (
      SELECT f.score FROM scores.finals f
      WHERE $4 AND f.board = $1 AND f.period = $2 AND f.score > s.score
      ORDER BY f.score LIMIT 1) up ON true
    LEFT JOIN LATERAL (
      SELECT f.score FROM scores.finals f
      WHERE NOT $4 AND f.board = $1 AND f.period = $2 AND f.score < s.score
      ORDER BY f.score DESC LIMIT 1) down ON true
    LEFT JOIN LATERAL (
      SELECT f.position FROM scores.finals f
      WHERE f.board = $1 AND f.period = $2 AND f.score = coalesce(up.score, down.score)
      ORDER BY f.position DESC LIMIT 1) a ON true
    LEFT JOIN LATERAL (
      SELECT f.position FROM scores.finals f
      WHERE f.board = $1 AND f.period = $2 AND f.score = s.score
      ORDER BY f.position DESC LIMIT 1) u ON true
"""


def _closed(board: Board, record: Any) -> ClosedPeriod:
    return ClosedPeriod(
        period=Period(board, record["period"], record["end_ms"], closed=True),
        seal=Seal(
            closed_at_ms=record["closed_at_ms"],
            hash=record["hash"],
            signature=record["signature"],
            key_id=record["key_id"],
        ),
        players=record["players"],
    )
