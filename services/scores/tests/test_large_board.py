"""A board of a million players, against SQL; `-s` shows what its reads take."""

import random
import time
from statistics import quantiles

from protos import scores_pb2
from services.scores.boards.rules import ALL_TIME, Period
from services.scores.tests.crowd import SQL_S
from services.scores.tests.scores_served import Scores

PLAYERS, SAMPLES, RADIUS, TOP = 1_000_000, 300, 5, 100

Place = tuple[int, str, int]  # position, player, score


async def test_a_board_of_a_million_players_is_exact(scores: Scores) -> None:
    places = await _fill(scores)
    board = scores.registry.get(ALL_TIME).board
    await scores.upkeep.redis_boards.begin(Period(board, 0, None), wipe=True)
    await scores.upkeep.rebuild.work()
    took = {"top": Took(), "around": Took(), "rank": Took()}

    for position in random.Random(1).sample(range(PLAYERS), SAMPLES):
        user = places[position][1]
        near = places[max(0, position - RADIUS) : position + RADIUS + 1]
        around = scores_pb2.AroundItem(board=ALL_TIME, user_id=user, radius=RADIUS)
        with took["around"]:
            found = await scores.stub.Around(scores_pb2.AroundRequest(items=[around]))
        place = found.results[0].place
        assert (place.rank, place.total, place.behind) == (
            position + 1,
            PLAYERS,
            PLAYERS - position - 1,
        )
        assert [(e.rank, e.user_id, e.score) for e in place.neighbours] == near
        with took["rank"]:
            ranks = await scores.stub.Ranks(
                scores_pb2.RanksRequest(board=ALL_TIME, user_ids=[user])
            )
        assert [(e.rank, e.user_id, e.score) for e in ranks.entries] == [places[position]]
    for _ in range(100):
        with took["top"]:
            top = await scores.stub.Top(
                scores_pb2.TopRequest(
                    items=[scores_pb2.TopItem(board=ALL_TIME, limit=TOP, fresh=True)]
                )
            )
        assert [(e.rank, e.user_id, e.score) for e in top.results[0].top.entries] == places[:TOP]

    used = [
        await scores.redis.memory_usage(key, samples=1000)
        for key in ("leaderboard:{all_time}", "leaderboard:{all_time}:members")
    ]
    print({read: f"p99 {each.p99_ms():.2f} ms" for read, each in took.items()})
    print(f"{sum(filter(None, used)) / PLAYERS:.0f} bytes of Redis for a player")


class Took:
    """The times of what is done within it."""

    def __init__(self) -> None:
        self._ms: list[float] = []
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._ms.append((time.perf_counter() - self._began) * 1000)

    def p99_ms(self) -> float:
        """The time that one of a hundred exceeds."""
        return quantiles(self._ms, n=100)[-1]


async def _fill(scores: Scores) -> list[Place]:
    """About ten players have each score; returns the board as SQL has it."""
    await scores.admin.execute(
        """
        INSERT INTO scores.players (user_id, username, name_version, version, total, reached_seq,
                                    reached_at)
        SELECT md5('large' || i)::uuid, 'player-' || i, 1, 1, 1 + (i * 7919) % ($1 / 10),
               256 * ((i * 104729) % $1), now()
        FROM generate_series(1::bigint, $1) AS i
        """,
        PLAYERS,
        timeout=SQL_S,
    )
    rows = await scores.admin.fetch(
        """
        SELECT row_number() OVER (ORDER BY p.total DESC, p.reached_seq) AS position,
               p.user_id::text AS user_id, p.total
        FROM scores.players p ORDER BY 1
        """,
        timeout=SQL_S,
    )
    return [(row["position"], row["user_id"], row["total"]) for row in rows]
