"""What the stores hold, read past all services: the ledger, the totals, the board in Redis."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from scoreboard_client import Award
from tests.suite import Suite

BOARD = "leaderboard:{all_time}"
_PLACE_BYTES = 8  # in a member of a board, before the player's id


async def ledger(suite: Suite, users: Iterable[str] | None = None) -> list[Award]:
    """The ledger in its order, of these players only if any are named.

    What the ledger does not hold is empty.
    """
    rows = await suite.sql(
        """
        SELECT action_id::text, user_id::text, points, old_score, new_score, version
        FROM scores.ledger
        WHERE $1::uuid[] IS NULL OR user_id = ANY ($1)
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
            timestamp="",
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
    """Those of the players whose total is not the sum of their ledger."""
    rows = await suite.sql(
        """
        SELECT p.user_id::text
        FROM scores.players p
        LEFT JOIN (SELECT user_id, sum(points) AS total, count(*) AS version
                   FROM scores.ledger GROUP BY user_id) l USING (user_id)
        WHERE p.user_id = ANY ($1)
          AND (p.total <> coalesce(l.total, 0) OR p.version <> coalesce(l.version, 0))
        """,
        list(users),
    )
    return [row["user_id"] for row in rows]


async def board_in_postgres(suite: Suite) -> list[tuple[str, int]]:
    """Everybody who was ever awarded with their score, the best first, by who came first."""
    rows = await suite.sql(
        """
        SELECT user_id::text, total
        FROM scores.players
        WHERE version > 0 AND NOT hidden
        ORDER BY total DESC, reached_seq
        """
    )
    return [(row["user_id"], row["total"]) for row in rows]


async def board_in_redis(suite: Suite) -> list[tuple[str, int]]:
    """The same, as the sorted set has it."""
    async with Redis.from_url(suite.processes()["redis"]["url"]) as redis:
        rows: Any = await redis.zrevrange(BOARD, 0, -1, withscores=True)
    return [(str(uuid.UUID(bytes=member[_PLACE_BYTES:])), int(score)) for member, score in rows]


async def boards_agree(suite: Suite) -> bool:
    """Whether Redis shows exactly what Postgres holds: everybody, score and order."""
    return await board_in_redis(suite) == await board_in_postgres(suite)
