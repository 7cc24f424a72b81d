"""The boards in Postgres: their rules, their periods, and who stands where in open ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import msgspec

from chassis import clock
from chassis.postgres import Database
from services.scores.boards.rules import Board, Known, Period


@dataclass(frozen=True, slots=True)
class Standing:
    """A player's place in one open period of a board, at the player's `version`.

    `seq` is that of the award in force that reached the score; None: none is, so that the
    player is not on the board. Nor is one who is `hidden`.
    """

    board: str
    period: int
    user_id: str
    version: int
    score: int
    seq: int | None
    at_ms: int
    hidden: bool


class BoardStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def boards(self) -> list[Known]:
        """Every board, with its periods that are not closed or ended in the last eight days."""
        records = await self._fetch(
            """
            SELECT b.board AS name, b.title, b.operator, b.ordering AS "order", b.ties,
                   b.action_types, b.every, to_char(b.reset_at, 'HH24:MI') AS reset_at, b.zone,
                   b.entries AS "window", b.public, b.built_in, b.listed, p.period,
                   CASE WHEN p.ends <> 'infinity'
                        THEN (extract(epoch FROM p.ends) * 1000)::bigint END AS end_ms,
                   p.closed_at IS NOT NULL AS closed
            FROM scores.boards b LEFT JOIN scores.periods p ON p.board = b.board
              AND (p.closed_at IS NULL OR p.ends > clock_timestamp() + $1 - interval '8 days')
            ORDER BY NOT b.built_in, b.created_at, b.board, p.period
            """,
            clock.offset(),
        )
        known: list[Known] = []
        for _, group in groupby(records, key=itemgetter("name")):
            first, *_ = rows = list(group)
            board = msgspec.convert(dict(first), Board)
            periods = (
                Period(board, row["period"], row["end_ms"], row["closed"])
                for row in rows
                if row["period"] is not None
            )
            known.append(Known(board, tuple(periods), first["listed"]))
        return known

    async def add_board(self, board: Board) -> bool:
        """Adds a board, not listed yet; False when there is one of that name."""
        records = await self._fetch(
            """
            INSERT INTO scores.boards (board, title, operator, ordering, ties, action_types, every,
                                       reset_at, zone, entries, public)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::time, $9, $10, $11)
            ON CONFLICT (board) DO NOTHING RETURNING board
            """,
            board.name,
            board.title,
            board.operator,
            board.order,
            board.ties,
            list(board.action_types),
            board.every,
            board.reset_at,
            board.zone,
            board.window,
            board.public,
        )
        return bool(records)

    async def add_periods(self, periods: Sequence[Period]) -> None:
        """Adds those of the periods that are not there yet."""
        await self._fetch(
            """
            INSERT INTO scores.periods (board, period, starts, ends)
            SELECT p.board, p.start_ms,
                   CASE WHEN p.end_ms IS NULL THEN '-infinity'
                        ELSE to_timestamp(p.start_ms / 1000.0) END,
                   coalesce(to_timestamp(p.end_ms / 1000.0), 'infinity')
            FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS p(board, start_ms, end_ms)
            ON CONFLICT (board, period) DO NOTHING
            """,
            [period.board.name for period in periods],
            [period.start_ms for period in periods],
            [period.end_ms for period in periods],
        )

    async def names(self, users: Sequence[str]) -> dict[str, tuple[int, str]]:
        """The names of `users`, each with its version, by id; unknown ones are left out."""
        records = await self._fetch(
            """
            SELECT p.user_id, p.name_version, p.username FROM scores.players p
            WHERE p.user_id = ANY ($1)
            """,
            users,
        )
        return {str(r["user_id"]): (r["name_version"], r["username"]) for r in records}

    async def of(self, users: Sequence[str]) -> list[Standing]:
        """Where those players stand in every period that is not closed, in one snapshot."""
        records = await self._fetch(
            """
            SELECT s.board, s.period, s.user_id::text, s.version, s.score, s.seq,
                   coalesce((extract(epoch FROM s.at) * 1000)::bigint, 0) AS at_ms, s.hidden
            FROM scores.standing_of($1) AS s
            """,
            users,
        )
        return [Standing(**record) for record in records]
