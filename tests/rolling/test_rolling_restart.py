"""Every process is restarted under load, in turn: no award fails, every watcher is restored."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from chassis.testing import eventually
from tests.faults.load import GIVE_UP_S, Load, expect_exact, playing
from tests.journeys.game import added
from tests.people import new_type, newcomer
from tests.rolling.replicas import ROTATION, Deployment
from tests.rolling.sockets import SHUTDOWN, Socket, watched

PLAYERS, SOCKETS = 8, 500
AWARDS_BETWEEN = 10  # two restarts, so that each comes under load
SHOWN_PLAY_S = 0.5  # so that 500 sockets have two changes a second of each player
# What passes by itself, by the contract: the same request again, and it is answered.
RETRYABLE = {"SERVICE_UNAVAILABLE", "ServerDisconnectedError", "ClientOSError"}


@pytest.mark.timeout(600)  # twelve starts, on machines that do more beside it
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
            async with asyncio.TaskGroup() as group:
                group.create_task(restarted(deployment, load))
                group.create_task(rotated(deployment, load))
            await load.grown(AWARDS_BETWEEN)
        await expect_exact(suite, load, players[2:])
        await expect_exact(suite, shown, players[:2])
        for each in (load, shown):
            assert not each.promises
            assert each.tried_again_after.keys() <= RETRYABLE
        await expect_restored(sockets, shown)


async def restarted(deployment: Deployment, load: Load) -> None:
    """Restarts every process, one at a time."""
    for replica in deployment.replicas:
        await load.grown(AWARDS_BETWEEN)
        took_s = await replica.restart()
        print(f"\n{replica.program.name} was back after {took_s:.1f} s", end="")


async def rotated(deployment: Deployment, load: Load) -> None:
    """Replaces every certificate, and then the CA."""
    for step in ROTATION:
        await load.grown(AWARDS_BETWEEN)
        await deployment.take(step)
        print(f"\nall have read what {step} wrote", end="")


async def expect_restored(sockets: Sequence[Socket], load: Load) -> None:
    """All of them show what was awarded, after each end that was announced, with no gap."""
    expected: Counter[str] = Counter()
    for award in load.awards:
        expected[award.user_id] += award.score_increment

    async def up_to_date() -> bool:
        return all(socket.shown == expected for socket in sockets)

    await eventually(up_to_date, timeout_s=GIVE_UP_S)
    for socket in sockets:
        assert socket.ends.keys() == {str(SHUTDOWN)}
        assert socket.restored.total() == socket.ends.total()
        assert socket.gaps == 0
