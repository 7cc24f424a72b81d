"""Many players at once, written past the service but as it writes them, and what SQL ranks."""

import asyncpg

from chassis import clock

BOARDS = ("all_time", "daily", "weekly", "monthly")
SQL_S = 120  # for one statement over all players


async def crowd(admin: asyncpg.Pool, players: int) -> None:
    """As many players, with one award each, of 1 to 1000 points."""
    await admin.execute(_CROWD, players, clock.offset(), timeout=SQL_S)


async def ranked(pool: asyncpg.Pool, board: str) -> list[tuple[str, int]]:
    """Every player on a built-in board with the score, in its order."""
    total, seq = {
        "all_time": ("total", "reached_seq"),
        "daily": ("day_total", "day_seq"),
        "weekly": ("week_total", "week_seq"),
        "monthly": ("month_total", "month_seq"),
    }[board]
    rows = await pool.fetch(
        f"SELECT user_id::text, {total} FROM scores.players"
        f" WHERE {seq} IS NOT NULL AND NOT hidden ORDER BY {total} DESC, {seq}",
        timeout=SQL_S,
    )
    return [(row[0], row[1]) for row in rows]


_CROWD = """
    WITH made AS MATERIALIZED (
      SELECT gen_random_uuid() AS user_id, scores.id_floor(now() + $2::interval) AS floor, i,
             date_trunc('milliseconds', now() + $2::interval) AS at,
             (i * 7919) % 1000 + 1 AS points, nextval('scores.seq') + 1 AS seq
      FROM generate_series(1, $1::int) i
    ), led AS (
      INSERT INTO scores.ledger (action_id, user_id, action_type, points, old_score, new_score,
                                 version, seq, at, attempt_id)
      SELECT (left(floor::text, 14) || '7' || substr(user_id::text, 16))::uuid, user_id, 'WIN_GAME',
             points, 0, points, 1, seq, at, user_id
      FROM made
    )
    INSERT INTO scores.players (user_id, username, name_version, version, total, reached_seq,
      reached_at, day, day_total, day_seq, day_at, week, week_total, week_seq, week_at, month,
      month_total, month_seq, month_at)
    SELECT user_id, 'crowd-' || i, 1, 1, points, seq, at,
           extract(epoch FROM date_trunc('day', at, 'UTC')) * 1000, points, seq, at,
           extract(epoch FROM date_trunc('week', at, 'UTC')) * 1000, points, seq, at,
           extract(epoch FROM date_trunc('month', at, 'UTC')) * 1000, points, seq, at
    FROM made
"""
