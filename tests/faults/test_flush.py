"""Redis forgets everything at once: boards are read on as they were, and come back exact."""

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from redis.asyncio import Redis

from chassis.testing import eventually
from scoreboard_client import Client
from tests import books
from tests.faults.load import GIVE_UP_S
from tests.people import address, new_type, newcomer
from tests.suite import Suite

PLAYERS = 6
FLUSHES_MAX = 10


async def test_boards_are_read_on_while_redis_has_lost_them_and_come_back(mortal: Suite) -> None:
    types = [await new_type(mortal, points=points) for points in (3, 5)]
    async with AsyncExitStack() as stack:
        people = [newcomer(mortal) for _ in range(PLAYERS)]
        players = [await stack.enter_async_context(person) for person in people]
        visitor = await stack.enter_async_context(Client(mortal.url, headers=address()))
        for player in players:  # all level, and then the last is the first
            await award(player, types[0])
        await award(players[-1], types[1])
        await eventually(partial(books.boards_agree, mortal), timeout_s=GIVE_UP_S)
        before = {
            board: shown(await visitor.leaderboard(board, limit=100)) for board in books.BUILT_IN
        }
        place = shown(await players[0].place())

        flushes = await flushed_until_degraded(mortal, visitor, before)
        assert shown(await players[0].place()) == place
        assert await award(players[0], types[1]) == 8

        await eventually(partial(books.boards_agree, mortal), timeout_s=GIVE_UP_S)
        await eventually(partial(whole, visitor), timeout_s=GIVE_UP_S)
        best = (await books.boards_in_postgres(mortal))["all_time"]
        top = (await visitor.leaderboard(limit=100))["entries"]
        assert [(entry["userId"], entry["score"]) for entry in top] == best[:100]
        print(f"\nseen degraded after {flushes} flush(es)")


async def flushed_until_degraded(suite: Suite, reader: Client, before: dict[str, Any]) -> int:
    """Flushes Redis, again if the boards were back before a read; returns how often.

    All that is read meanwhile is as it was before.
    """
    async with Redis.from_url(suite.processes()["redis"]["url"]) as redis:
        for flushes in range(1, FLUSHES_MAX + 1):
            await redis.flushall()
            tops = [await reader.leaderboard(board, limit=100) for board in books.BUILT_IN]
            assert {top["board"]: shown(top) for top in tops} == before
            if any(top["degraded"] for top in tops):
                return flushes
            await eventually(partial(books.boards_agree, suite), timeout_s=GIVE_UP_S)
    raise AssertionError("no read was degraded")


async def whole(reader: Client) -> bool:
    """Whether no board is degraded."""
    tops = [await reader.leaderboard(board) for board in books.BUILT_IN]
    return not any(top["degraded"] for top in tops)


async def award(player: Client, action_type: str) -> int:
    """The player's score after one more play."""
    action = await player.request_action(action_type)
    return (await player.complete(action, completion_time_ms=0)).new_score


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the mark of where it was read, and what is worked out of it elsewhere."""
    return {n: v for n, v in answer.items() if n not in ("degraded", "updatedAt", "nextCursor")}
