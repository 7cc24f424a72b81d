"""What rebuild, filling and auditor read and write in Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import Record

from chassis.postgres import Database
from services.scores.boards.rules import Period


@dataclass(frozen=True, slots=True)
class Players:
    """Many players on one board and period, in columns; seq None: not on the board."""

    board: str
    period: int
    users: Sequence[UUID]
    versions: Sequence[int]
    scores: Sequence[int]
    seqs: Sequence[int | None]
    ats_ms: Sequence[int]


@dataclass(frozen=True, slots=True)
class Page:
    """A number of players in the order of ids, up to `last`; None: there are no more."""

    last: str | None
    players: int
    boards: Sequence[Players]


class UpkeepStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def unlisted(self) -> list[tuple[str, str | None]]:
        """The boards that are not listed yet, and the player up to whom each is filled."""
        records = await self._fetch(
            "SELECT b.board, b.filled_upto::text AS upto FROM scores.boards b"
            " WHERE NOT b.listed ORDER BY b.created_at, b.board"
        )
        return [(record["board"], record["upto"]) for record in records]

    async def filled(self, board: str, *, upto: str) -> None:
        """The board is filled up to that player, in the order of ids."""
        await self._fetch("UPDATE scores.boards SET filled_upto = $2 WHERE board = $1", board, upto)

    async def list_board(self, board: str) -> None:
        """The board is filled: it may be shown."""
        await self._fetch("UPDATE scores.boards SET listed = true WHERE board = $1", board)

    async def refill(self, users: Sequence[str]) -> None:
        """Counts the players' awards again, on every board."""
        await self._fetch("SELECT scores.refill($1)", users)

    async def users(self, *, after: str | None, limit: int) -> list[str]:
        """The ids of the next players behind `after`, in the order of ids."""
        return [user for user, _ in await self.changes(after=after, limit=limit)]

    async def changes(self, *, after: str | None, limit: int) -> list[tuple[str, int]]:
        """The next players behind `after`, in the order of ids, and how often each was changed.

        No player has more rows in the ledger than that.
        """
        records = await self._fetch(
            """
            SELECT p.user_id, p.version FROM scores.players p
            WHERE p.user_id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
            ORDER BY p.user_id LIMIT $2
            """,
            after,
            limit,
        )
        return [(str(record["user_id"]), record["version"]) for record in records]

    async def open_periods(self) -> list[tuple[str, int]]:
        """The board and the start (Unix ms) of every period that is not closed."""
        records = await self._fetch(
            "SELECT p.board, p.period FROM scores.periods p WHERE p.closed_at IS NULL"
        )
        return [(record["board"], record["period"]) for record in records]

    async def awarded_since(self, since_ms: int) -> list[str]:
        """The players who have awards or reversals made at `since_ms` (Unix ms) or later."""
        records = await self._fetch(
            "SELECT DISTINCT l.user_id FROM scores.ledger l"
            " WHERE l.at >= to_timestamp($1::bigint / 1000.0) AND l.kind <> 'given_up'",
            since_ms,
        )
        return [str(record["user_id"]) for record in records]

    async def versions(self, users: Sequence[str]) -> dict[str, int]:
        """The players' versions, by id; unknown players are left out."""
        records = await self._fetch(
            "SELECT p.user_id, p.version FROM scores.players p WHERE p.user_id = ANY ($1)", users
        )
        return {str(record["user_id"]): record["version"] for record in records}

    async def unpublished(self, users: Sequence[str]) -> set[str]:
        """Those of the players who have changes that are not published to the boards yet."""
        records = await self._fetch(
            "SELECT DISTINCT o.user_id FROM scores.outbox o"
            " WHERE o.user_id = ANY ($1) AND NOT o.published",
            users,
        )
        return {str(record["user_id"]) for record in records}

    async def miscounted(self, users: Sequence[str], *, boards: Sequence[str]) -> list[Record]:
        """Where those players stand differently from what their awards in force add up to.

        Each by board, period, user_id, score and counted; None: not on the board.
        """
        return await self._fetch(_MISCOUNTED, users, boards)

    async def page(self, periods: Sequence[Period], *, after: str | None, limit: int) -> Page:
        """Where the next players behind `after` stand on those boards and periods."""
        names, starts = [p.board.name for p in periods], [p.start_ms for p in periods]
        records = await self._fetch(_PAGE, after, limit, names, starts)
        return Page(
            last=records[0]["last"],
            players=records[0]["players"],
            boards=[
                Players(**{name: r[name] for name in Players.__slots__})
                for r in records
                if r["board"] is not None
            ],
        )

    async def players(self) -> int:
        """How many players there are."""
        (record,) = await self._fetch("SELECT count(*) AS players FROM scores.players")
        return int(record["players"])


_MISCOUNTED = """
    SELECT m.board, m.period, m.user_id::text AS user_id, m.score, m.counted
    FROM scores.miscounted($1, $2) AS m
"""
# Columns instead of rows: a rebuild reads everything, and each value has its price.
_PAGE = """
    WITH page AS MATERIALIZED (
      SELECT p.user_id, p.version, p.hidden, p.total, p.reached_seq, p.reached_at,
             p.day, p.day_total, p.day_seq, p.day_at, p.week, p.week_total, p.week_seq, p.week_at,
             p.month, p.month_total, p.month_seq, p.month_at
      FROM scores.players p
      WHERE p.user_id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
      ORDER BY p.user_id LIMIT $2
    ), upto AS (
      SELECT (SELECT g.user_id FROM page g ORDER BY g.user_id DESC LIMIT 1) AS last,
             (SELECT count(*) FROM page) AS players
    ), wanted AS (
      SELECT w.board, w.period FROM unnest($3::text[], $4::bigint[]) AS w(board, period)
    ), standing AS (
      SELECT w.board, w.period, g.user_id, g.version, g.hidden, v.score, v.seq, v.at
      FROM page g
      CROSS JOIN LATERAL (VALUES ('all_time', 0::bigint, g.total, g.reached_seq, g.reached_at),
                                 ('daily', g.day, g.day_total, g.day_seq, g.day_at),
                                 ('weekly', g.week, g.week_total, g.week_seq, g.week_at),
                                 ('monthly', g.month, g.month_total, g.month_seq, g.month_at))
        AS v(board, period, score, seq, at)
      JOIN wanted w ON w.board = v.board AND w.period = v.period
      UNION ALL
      SELECT w.board, w.period, g.user_id, g.version, g.hidden, k.score, k.seq, k.at
      FROM wanted w
      CROSS JOIN upto u
      JOIN scores.standings k ON k.board = w.board AND k.period = w.period
        AND k.user_id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
        AND k.user_id <= u.last
      JOIN page g ON g.user_id = k.user_id
    ), grouped AS (
      SELECT s.board, s.period, array_agg(s.user_id) AS users, array_agg(s.version) AS versions,
             array_agg(s.score) AS scores,
             array_agg(CASE WHEN NOT s.hidden THEN s.seq END) AS seqs,
             array_agg(coalesce((extract(epoch FROM s.at) * 1000)::bigint, 0)) AS ats_ms
      FROM standing s GROUP BY s.board, s.period
    )
    SELECT u.last::text, u.players,
           d.board, d.period, d.users, d.versions, d.scores, d.seqs, d.ats_ms
    FROM upto u LEFT JOIN grouped d ON true
"""
