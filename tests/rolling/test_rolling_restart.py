"""Every process is restarted under load, one at a time: no award fails, no watcher is left behind."""

import asyncio
from contextlib import AsyncExitStack

from chassis.testing import eventually
from tests.faults.load import Load, expect_exact, playing
from tests.journeys.game import added
from tests.people import new_type, newcomer
from tests.rolling.replicas import Deployment
from tests.rolling.sockets import watched

PLAYERS, SOCKETS = 8, 500
AWARDS_BETWEEN = 10  # two restarts, so that each comes under load
SHOWN_PLAY_S = 0.5  # so that 500 sockets have two changes a second of each player
# What passes by itself, by the contract: the same request again, and it is answered.
RETRYABLE = {"SERVICE_UNAVAILABLE", "ServerDisconnectedError", "ClientOSError"}


async def test_a_rolling_restart_fails_no_award_and_restores_every_socket(
    deployment: Deployment,
) -> None:
    suite = deployment.suite
    load = Load([await new_type(suite, points=points, max_open=1_000) for points in (1, 7)])
    shown = Load([await new_type(suite, points=3, max_open=1_000)], play_s=SHOWN_PLAY_S)
    board = {"board": "shown", "title": "Shown", "actionTypes": shown.action_types}
    await added(suite, board)
    async with AsyncExitStack() as stack:
        players = [await stack.enter_async_context(newcomer(suite)) for _ in range(PLAYERS)]
        sockets = await stack.enter_async_context(
            watched(suite.url, "leaderboard:shown", count=SOCKETS)
        )
        async with playing(load, players[2:]), playing(shown, players[:2]):
            for replica in deployment.replicas:
                await load.grown(AWARDS_BETWEEN)
                took_s = await replica.restart()
                print(f"\n{replica.program.name} was back after {took_s:.1f} s", end="")
            await load.grown(AWARDS_BETWEEN)
        await expect_exact(suite, load, players[2:])
        await expect_exact(suite, shown, players[:2])
        expected = {}
        for award in shown.awards:
            expected[award.user_id] = expected.get(award.user_id, 0) + award.score_increment

        async def brought_up_to_date() -> bool:
            return all(socket.shown == expected for socket in sockets)

        await eventually(brought_up_to_date, timeout_s=20)
    tried = load.tried_again_after + shown.tried_again_after
    ends = sum((socket.ends for socket in sockets), start=type(tried)())
    restored = sum((socket.restored for socket in sockets), start=type(tried)())
    print(tried, ends, restored, sum(s.gaps for s in sockets))
    assert not load.promises and not shown.promises
    assert set(tried) <= RETRYABLE, tried
