"""A board's channel is there as soon as the board is."""

import asyncio

from services.realtime.boards import PAUSE_S
from services.realtime.tests.replica import Attach, NewReplica, Replica
from services.realtime.tests.scores import FakeBoard, FakeScores

NEW = "leaderboard:new"


async def test_who_watches_a_board_made_a_moment_ago_is_shown_it(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica)
    scores.boards["new"] = FakeBoard(scores={"ada": 5})

    await gateway.watch(NEW)
    await gateway.until(lambda: gateway.states(NEW), timeout_s=3)

    assert not gateway.states(NEW)[0].unknown
    assert gateway.position(NEW)[1] == 1
    assert [entry["userId"] for entry in gateway.window(NEW)["entries"]] == ["ada"]
    await scores.award(("ada", 1))
    await gateway.receives(1, NEW)
    assert gateway.window(NEW)["entries"][0]["score"] == 6


async def test_every_replica_shows_it_whichever_builds_it(
    new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    gateways = [await attach(await new_replica()) for _ in range(3)]
    scores.boards["new"] = FakeBoard()

    for gateway in gateways:
        await gateway.watch(NEW)
    for gateway in gateways:
        await gateway.until(lambda seen=gateway: seen.states(NEW), timeout_s=3)  # type: ignore[misc]

    assert len({gateway.position(NEW) for gateway in gateways}) == 1
    assert gateways[0].position(NEW)[1] == 1


async def test_unknown_channels_cannot_flood_scores(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    loop, before = asyncio.get_running_loop(), scores.boards_calls
    gateways = [await attach(replica) for _ in range(4)]
    began = loop.time()
    for n in range(50):
        for gateway in gateways:
            await gateway.watch(f"leaderboard:none-{n}", "leaderboard:nowhere")
        await gateways[n % 4].until(lambda n=n: gateways[n % 4].states(f"leaderboard:none-{n}"))  # type: ignore[misc]
    took_s = loop.time() - began

    assert all(gateway.states("leaderboard:nowhere")[-1].unknown for gateway in gateways)
    assert scores.boards_calls - before <= took_s / PAUSE_S + 2


async def test_a_channel_is_not_refused_while_scores_cannot_say_whether_there_is_one(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica)
    scores.boards["new"] = FakeBoard()
    scores.unavailable = True
    await gateway.watch(NEW, "leaderboard:all_time")
    await gateway.until(lambda: scores.refused > 0 and gateway.states("leaderboard:all_time"))
    assert gateway.states(NEW) == []

    scores.unavailable = False
    await gateway.watch(NEW)

    await gateway.until(lambda: gateway.states(NEW))
    assert not gateway.states(NEW)[-1].unknown


async def test_who_stopped_watching_meanwhile_gets_nothing(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway, other = await attach(replica), await attach(replica)
    scores.boards["new"] = FakeBoard()

    await gateway.watch(NEW)
    await gateway.unwatch(NEW)
    await other.watch(NEW)
    await other.begun(NEW)
    await scores.award(("ada", 1))
    await other.receives(1, NEW)

    assert gateway.items[NEW] == []
