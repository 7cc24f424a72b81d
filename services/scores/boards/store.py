"""The boards in Postgres: their rules, their periods, and who stands where in open ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chassis import clock
from chassis.postgres import Database
from services.scores.boards.rules import Board, Operator, Order, Period, Reset, Ties


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

    def parts(self, size: int) -> list["Players"]:
        """The same, at most `size` at once."""
        return [
            Players(
                self.board,
                self.period,
                self.users[i : i + size],
                self.versions[i : i + size],
                self.scores[i : i + size],
                self.seqs[i : i + size],
                self.ats_ms[i : i + size],
            )
            for i in range(0, len(self.users), size)
        ]


@dataclass(frozen=True, slots=True)
class Page:
    """A number of players in the order of ids, up to `last`; None: there are no more."""

    last: str | None
    players: int
    boards: Sequence[Players]


@dataclass(frozen=True, slots=True)
class Miscounted:
    """A place in Postgres and what the ledger says; None: not on the board."""

    board: str
    period: int
    user_id: str
    score: int | None
    counted: int | None


class Standings:
    """Every method raises DbUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fetch = database.fetch

    async def boards(self) -> list[tuple[Board, bool, list[Period]]]:
        """Every board, whether it is listed, and its periods that are not closed or ended in the
        last eight days, oldest first."""
        records = await self._fetch(
            """
            SELECT b.board, b.title, b.operator, b.ordering, b.ties, b.action_types, b.every,
                   to_char(b.reset_at, 'HH24:MI') AS reset_at, b.zone, b.entries, b.public,
                   b.built_in, b.listed, p.period,
                   CASE WHEN p.ends <> 'infinity'
                        THEN (extract(epoch FROM p.ends) * 1000)::bigint END AS end_ms,
                   p.closed_at IS NOT NULL AS closed
            FROM scores.boards b LEFT JOIN scores.periods p ON p.board = b.board
              AND (p.closed_at IS NULL OR p.ends > clock_timestamp() + $1 - interval '8 days')
            ORDER BY NOT b.built_in, b.created_at, b.board, p.period
            """,
            clock.offset(),
        )
        found: dict[str, tuple[Board, bool, list[Period]]] = {}
        for r in records:
            if r["board"] not in found:
                found[r["board"]] = (_board(r), r["listed"], [])
            if r["period"] is not None:
                found[r["board"]][2].append(Period(r["period"], r["end_ms"], r["closed"]))
        return list(found.values())

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

    async def add_periods(self, board: str, periods: Sequence[Period]) -> None:
        """Adds those of the board's periods that are not there yet."""
        await self._fetch(
            """
            INSERT INTO scores.periods (board, period, starts, ends)
            SELECT $1, p.start_ms,
                   CASE WHEN p.end_ms IS NULL THEN '-infinity'
                        ELSE to_timestamp(p.start_ms / 1000.0) END,
                   coalesce(to_timestamp(p.end_ms / 1000.0), 'infinity')
            FROM unnest($2::bigint[], $3::bigint[]) AS p(start_ms, end_ms)
            ON CONFLICT (board, period) DO NOTHING
            """,
            board,
            [period.start_ms for period in periods],
            [period.end_ms for period in periods],
        )

    async def unlisted(self) -> list[tuple[str, str | None]]:
        """The boards that are not listed yet, and the player up to whom each is filled."""
        records = await self._fetch(
            """
            SELECT b.board, b.filled_upto FROM scores.boards b
            WHERE NOT b.listed ORDER BY b.created_at, b.board
            """
        )
        return [(r["board"], str(r["filled_upto"]) if r["filled_upto"] else None) for r in records]

    async def filled(self, board: str, *, upto: str) -> None:
        """The board is filled up to that player, in the order of ids."""
        await self._fetch("UPDATE scores.boards SET filled_upto = $2 WHERE board = $1", board, upto)

    async def list_board(self, board: str) -> None:
        """The board is filled: it may be shown."""
        await self._fetch("UPDATE scores.boards SET listed = true WHERE board = $1", board)

    async def refill(self, users: Sequence[str]) -> None:
        """Counts the players' awards anew, on every board."""
        await self._fetch("SELECT scores.refill($1)", users)

    async def users(self, *, after: str | None, limit: int) -> list[str]:
        """The ids of the next players behind `after`, in the order of ids."""
        records = await self._fetch(
            """
            SELECT p.user_id FROM scores.players p
            WHERE p.user_id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid)
            ORDER BY p.user_id LIMIT $2
            """,
            after,
            limit,
        )
        return [str(record["user_id"]) for record in records]

    async def changes(self, *, after: str | None, limit: int) -> list[tuple[str, int]]:
        """The next players behind `after`, in the order of ids, and how often each was changed.

        Nobody has more rows in the ledger than that.
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

    async def awarded_since(self, since_ms: int) -> list[str]:
        """The players who have ledger rows made at `since_ms` (Unix ms) or later."""
        records = await self._fetch(
            "SELECT DISTINCT l.user_id FROM scores.ledger l"
            " WHERE l.at >= to_timestamp($1::bigint / 1000.0)",
            since_ms,
        )
        return [str(record["user_id"]) for record in records]

    async def of(self, users: Sequence[str]) -> list[Standing]:
        """Where those players stand in every period that is not closed, in one snapshot."""
        records = await self._fetch(
            """
            SELECT s.board, s.period, s.user_id, s.version, s.score, s.seq,
                   (extract(epoch FROM s.at) * 1000)::bigint AS at_ms, s.hidden
            FROM scores.standing_of($1) AS s
            """,
            users,
        )
        return [_standing(record) for record in records]

    async def versions(self, users: Sequence[str]) -> dict[str, int]:
        """The players' versions, by id; unknown players are left out."""
        records = await self._fetch(
            "SELECT p.user_id, p.version FROM scores.players p WHERE p.user_id = ANY ($1)", users
        )
        return {str(record["user_id"]): record["version"] for record in records}

    async def untold(self, users: Sequence[str]) -> set[str]:
        """Those of the players of whom the boards have not heard all yet."""
        records = await self._fetch(
            "SELECT DISTINCT o.user_id FROM scores.outbox o"
            " WHERE o.user_id = ANY ($1) AND NOT o.published",
            users,
        )
        return {str(record["user_id"]) for record in records}

    async def miscounted(self, users: Sequence[str], *, boards: Sequence[str]) -> list[Miscounted]:
        """Where those players stand otherwise than their awards in force say."""
        records = await self._fetch(
            """
            SELECT m.board, m.period, m.user_id, m.score, m.counted
            FROM scores.miscounted($1, $2) AS m
            """,
            users,
            boards,
        )
        return [
            Miscounted(r["board"], r["period"], str(r["user_id"]), r["score"], r["counted"])
            for r in records
        ]

    async def page(
        self, periods: Sequence[tuple[str, int]], *, after: str | None, limit: int
    ) -> Page:
        """Where the next players behind `after` stand on those boards and periods."""
        records = await self._fetch(
            _PAGE,
            after,
            limit,
            [board for board, _ in periods],
            [period for _, period in periods],
        )
        return Page(
            last=str(records[0]["last"]) if records[0]["players"] else None,
            players=records[0]["players"],
            boards=[
                Players(
                    r["board"],
                    r["period"],
                    r["users"],
                    r["versions"],
                    r["scores"],
                    r["seqs"],
                    r["ats_ms"],
                )
                for r in records
                if r["board"] is not None
            ],
        )

    async def players(self) -> int:
        """How many players there are."""
        records = await self._fetch("SELECT count(*) AS players FROM scores.players")
        return int(records[0]["players"])


# Columns instead of rows: a rebuild reads everything, and a value costs more than what it says.
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
    SELECT u.last, u.players, d.board, d.period, d.users, d.versions, d.scores, d.seqs, d.ats_ms
    FROM upto u LEFT JOIN grouped d ON true
"""


def _board(record: Any) -> Board:
    return Board(
        name=record["board"],
        title=record["title"],
        operator=Operator(record["operator"]),
        order=Order(record["ordering"]),
        ties=Ties(record["ties"]),
        action_types=tuple(record["action_types"]),
        every=Reset(record["every"]),
        reset_at=record["reset_at"],
        zone=record["zone"],
        window=record["entries"],
        public=record["public"],
        built_in=record["built_in"],
    )


def _standing(record: Any) -> Standing:
    return Standing(
        record["board"],
        record["period"],
        str(record["user_id"]),
        record["version"],
        record["score"],
        record["seq"],
        record["at_ms"] or 0,
        record["hidden"],
    )
