"""What the stores hold, read past all services: the ledger, the totals, the board in Redis."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from scoreboard_client import Award
from tests.suite import Suite

BUILT_IN = ("all_time", "daily", "weekly", "monthly")
JOURNAL = "journal:{awards}"
_PLACE_BYTES = 8  # in a member of a board, before the player's id

# Tag of a board's period (as in its keys in Redis) to players and scores, the best first.
Boards = dict[str, list[tuple[str, int]]]


async def ledger(suite: Suite, users: Iterable[str] | None = None) -> list[Award]:
    """The ledger in its order, of these players only if any are named.

    What the ledger does not hold is empty.
    """
    rows = await suite.sql(
        """
        SELECT action_id::text, user_id::text, points, old_score, new_score, version, at
        FROM scores.ledger
        WHERE ($1::uuid[] IS NULL OR user_id = ANY ($1)) AND kind <> 'given_up'
        ORDER BY seq
        """,
        None if users is None else list(users),
    )
    return [
        Award(
            action_id=row["action_id"],
            user_id=row["user_id"],
            old_score=row["old_score"],
            new_score=row["new_score"],
            score_increment=row["points"],
            rank=None,
            old_rank=None,
            version=row["version"],
            timestamp=f"{row['at']:%Y-%m-%dT%H:%M:%S}.{row['at'].microsecond // 1000:03}Z",
            warnings=(),
            held=False,
        )
        for row in rows
    ]


def entry(award: Award) -> tuple[str, str, int, int, int, int]:
    """What an answer and its ledger row must agree on."""
    return (
        award.action_id,
        award.user_id,
        award.old_score,
        award.new_score,
        award.score_increment,
        award.version,
    )


def broken_chains(rows: Sequence[Award]) -> list[Award]:
    """The rows of a ledger that do not begin where the row before, of the same player, ended."""
    ends: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))  # score, version
    broken = []
    for row in rows:
        score, version = ends[row.user_id]
        fits = row.old_score == score and row.version == version + 1
        if not fits or row.new_score != row.old_score + row.score_increment:
            broken.append(row)
        ends[row.user_id] = (row.new_score, row.version)
    return broken


async def wrong_totals(suite: Suite, users: Iterable[str]) -> list[str]:
    """Those of the players whose running totals are not the sums of their ledger."""
    rows = await suite.sql(
        """
        SELECT p.user_id::text
        FROM scores.players p, LATERAL (
          SELECT coalesce(sum(points), 0) AS total, count(*) AS version
          FROM scores.ledger WHERE user_id = p.user_id AND kind <> 'given_up') l
        WHERE p.user_id = ANY ($1) AND (p.total <> l.total OR p.version <> l.version OR EXISTS (
          SELECT FROM (VALUES ('daily', p.day, p.day_total), ('weekly', p.week, p.week_total),
                              ('monthly', p.month, p.month_total)) AS v(board, period, total)
          JOIN scores.periods b USING (board, period)
          WHERE v.total <> (SELECT coalesce(sum(f.points), 0) FROM scores.in_force f
                            WHERE f.user_id = p.user_id AND b.starts <= f.at AND f.at < b.ends)))
        """,
        list(users),
    )
    return [row["user_id"] for row in rows]


async def boards_in_postgres(suite: Suite) -> Boards:
    """The built-in boards in their present periods, by the players' running totals."""
    rows = await suite.sql(
        """
        SELECT b.board, b.period, p.user_id::text, p.score
        FROM scores.periods b
        LEFT JOIN LATERAL (
          SELECT k.user_id, v.score, v.seq
          FROM scores.players k,
               LATERAL (VALUES ('all_time', 0, k.total, k.reached_seq),
                               ('daily', k.day, k.day_total, k.day_seq),
                               ('weekly', k.week, k.week_total, k.week_seq),
                               ('monthly', k.month, k.month_total, k.month_seq))
                 AS v(board, period, score, seq)
          WHERE v.board = b.board AND v.period = b.period AND v.seq IS NOT NULL AND NOT k.hidden
        ) p ON true
        WHERE b.board = ANY ($1) AND b.starts <= $2 AND $2 < b.ends
        ORDER BY b.board, p.score DESC, p.seq
        """,
        list(BUILT_IN),
        datetime.now(UTC) + timedelta(seconds=suite.clock_offset_s),
    )
    boards: Boards = {}
    for row in rows:
        board = boards.setdefault(_tag(row["board"], row["period"]), [])
        if row["user_id"] is not None:
            board.append((row["user_id"], row["score"]))
    return boards


async def boards_in_redis(suite: Suite, tags: Iterable[str]) -> Boards:
    """The boards of these tags, as the sorted sets have them."""
    boards: Boards = {}
    async with Redis.from_url(suite.processes()["redis"]["url"]) as redis:
        for tag in tags:
            rows: Any = await redis.zrevrange(f"leaderboard:{{{tag}}}", 0, -1, withscores=True)
            boards[tag] = [
                (str(uuid.UUID(bytes=member[_PLACE_BYTES:])), int(score)) for member, score in rows
            ]
    return boards


async def boards_agree(suite: Suite) -> bool:
    """Whether Redis shows exactly what Postgres holds: everybody, score and order."""
    expected = await boards_in_postgres(suite)
    return await boards_in_redis(suite, expected) == expected


async def expect_published(suite: Suite) -> None:
    """Nothing waits any more: for Postgres, or to be published. Raises AssertionError."""
    ((waiting,),) = await suite.sql("SELECT count(*) FROM scores.outbox")
    assert waiting == 0, f"{waiting} in the outbox"
    async with Redis.from_url(suite.processes()["redis"]["url"]) as redis:
        assert await journalled(redis) == 0


async def journalled(redis: Redis) -> int:
    """How many awards wait in Redis for Postgres."""
    return int(await redis.xlen(JOURNAL))


def _tag(board: str, period: int) -> str:
    """What is common to the keys of a board's period."""
    if period == 0:
        return board
    return f"{board}:{datetime.fromtimestamp(period / 1000, UTC):%Y%m%dT%H%M%SZ}"
