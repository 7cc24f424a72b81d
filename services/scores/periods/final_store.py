"""The final tables of closed periods."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.postgres.replica import Reader
from services.scores.boards.registry import PeriodNotFound
from services.scores.boards.rules import Period
from services.scores.periods.store import CLOSED, Closed


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

    async def closed(self, board: str, start_ms: int) -> Closed:
        """The closed period that begins then. Raises PeriodNotFound."""
        return await self._closed("p.period = $2", board, start_ms)

    async def closed_before(self, board: str, start_ms: int) -> Closed:
        """The last closed period that begins before. Raises PeriodNotFound."""
        return await self._closed("p.period < $2", board, start_ms)

    async def rows(self, period: Period, *, first: int, last: int) -> list[FinalRow]:
        """The rows from one position (from 1) to another."""
        sql = f"{_ROWS} AND f.position BETWEEN $3 AND $4 ORDER BY f.position"
        records = await self._fetch(sql, period.board.name, period.start_ms, first, last)
        return [FinalRow(**record) for record in records]

    async def of(self, period: Period, users: Sequence[str]) -> list[FinalRow]:
        """The rows of those players who have one."""
        sql = f"{_ROWS} AND f.user_id = ANY ($3::uuid[])"
        records = await self._fetch(sql, period.board.name, period.start_ms, users)
        return [FinalRow(**record) for record in records]

    async def levels(self, period: Period, scores: Sequence[int]) -> dict[int, Level]:
        """How those scores stand, by score."""
        board = period.board
        records = await self._fetch(
            _LEVELS, board.name, period.start_ms, list(set(scores)), board.descending
        )
        return {r["score"]: Level(r["ahead"], r["upto"], r["next_score"]) for r in records}

    async def reached_by(self, period: Period, score: int, seq: int) -> int:
        """How many have that score and reached it by that sequence of the ledger."""
        (record,) = await self._fetch(_REACHED_BY, period.board.name, period.start_ms, score, seq)
        return int(record["players"])

    async def scores(self, period: Period) -> "array[int]":
        """The distinct scores, lowest first."""
        records = await self._fetch(_SCORES, period.board.name, period.start_ms)
        return array("q", (record["score"] for record in records))

    async def _closed(self, where: str, board: str, start_ms: int) -> Closed:
        sql = f"{CLOSED} AND p.board = $1 AND {where} ORDER BY p.period DESC LIMIT 1"
        records = await self._fetch(sql, board, start_ms)
        if not records:
            raise PeriodNotFound
        return Closed(**records[0])


_ROWS = """
    SELECT f.position, f.user_id::text AS user_id, coalesce(p.username, '') AS username, f.score,
           f.seq, (extract(epoch FROM f.reached_at) * 1000)::bigint AS at_ms,
           f.removed OR coalesce(p.hidden, false) AS removed, coalesce(p.version, 0) AS version
    FROM scores.finals f LEFT JOIN scores.players p ON p.user_id = f.user_id
    WHERE f.board = $1 AND f.period = $2
"""
_REACHED_BY = """
    SELECT count(*) AS players FROM scores.finals f
    WHERE f.board = $1 AND f.period = $2 AND f.score = $3 AND f.seq <= $4
"""
_SCORES = """
    SELECT DISTINCT f.score FROM scores.finals f
    WHERE f.board = $1 AND f.period = $2 ORDER BY f.score
"""
# The last position of a score is the number of those who have it or a better one.
_LEVELS = """
    SELECT s.score, coalesce(up.score, down.score) AS next_score,
           coalesce(a.position, 0) AS ahead, greatest(a.position, u.position, 0) AS upto
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
