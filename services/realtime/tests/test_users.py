"""What players receive on their own channels."""

from chassis.redis import Redis
from protos import events_pb2
from protos.streams import AWARDS
from services.realtime.tests.gateway import BOARD, decoded
from services.realtime.tests.replica import Attach, Replica
from services.realtime.tests.scores import FakeScores


async def test_a_state_has_the_standing_of_the_player(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    await scores.award(("ada", 50), ("bob", 20))

    gateway = await attach(replica, "user:bob", "user:unranked")
    await gateway.until(lambda: gateway.states("user:bob") and gateway.states("user:unranked"))

    [bob], [unranked] = gateway.states("user:bob"), gateway.states("user:unranked")
    assert decoded(bob.snapshot) == {"score": 20, "rank": 2, "version": 1}
    assert decoded(unranked.snapshot) == {"score": None, "rank": None, "version": 0}
    assert (bob.epoch, bob.offset) == ("", 0)


async def test_only_gateways_that_watch_receive_the_awards_of_a_player(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    with_ada = await attach(replica, "user:ada")
    with_bob = await attach(replica, "user:bob")
    left = await attach(replica, "user:ada")
    for gateway, channel in ((with_ada, "user:ada"), (with_bob, "user:bob"), (left, "user:ada")):
        await gateway.begun(channel)
    await left.unwatch("user:ada")
    # The state that follows on the same stream shows that the removal was read.
    await left.watch("user:bob")
    await left.begun("user:bob")

    await scores.award(("ada", 50), ("bob", 20))
    for gateway, channel in ((with_ada, "user:ada"), (with_bob, "user:bob"), (left, "user:bob")):
        await gateway.receives(1, channel)

    assert set(with_ada.items) == {"user:ada"}
    assert set(with_bob.items) == {"user:bob"}
    assert left.publications("user:ada") == []


async def test_every_award_is_one_event_also_several_in_one_batch(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, "user:ada")
    await gateway.begun("user:ada")

    ids = await scores.award(("ada", 50), ("bob", 5), ("ada", 20), ("ada", 1))
    ids += await scores.award(("ada", 2))
    await gateway.receives(4, "user:ada")

    events = gateway.data("user:ada")
    assert [event["actionId"] for event in events] == [ids[0], ids[2], ids[3], ids[4]]
    assert [(event["oldScore"], event["newScore"]) for event in events] == [
        (0, 50), (50, 70), (70, 71), (71, 73),
    ]  # fmt: skip
    assert [event["version"] for event in events] == [1, 2, 3, 4]


async def test_an_event_that_comes_twice_is_published_once(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, "user:ada")
    await gateway.begun("user:ada")
    event = events_pb2.ScoreEvent(
        event_id="a1", user_id="ada", username="Ada", version=7, points=5, new_score=5,
        old_rank=9, rank=3, at_ms=1_795_244_747_006,
    )  # fmt: skip

    await scores.publish(event)
    await scores.publish(event, events_pb2.ScoreEvent(event_id="a2", user_id="ada"))
    await gateway.receives(1, "user:ada")
    await gateway.until(lambda: gateway.data("user:ada")[-1]["actionId"] == "a2")

    first, second = gateway.data("user:ada")
    assert first == {
        "userId": "ada", "username": "Ada", "actionId": "a1", "board": "all_time",
        "oldScore": 0, "newScore": 5, "scoreIncrement": 5, "oldRank": 9, "rank": 3,
        "version": 7, "timestamp": "2026-11-21T07:05:47.006Z",
    }  # fmt: skip
    assert second["rank"] is None
    assert gateway.publications("user:ada")[0].awarded_at_ms == 1_795_244_747_006


async def test_an_award_while_the_state_is_requested_is_published_after_it(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()
    async with scores.held():
        await gateway.watch("user:ada")
        await scores.called.wait()
        await scores.award(("ada", 50))
        # The board shows the same award, so it has been read.
        await gateway.until(lambda: gateway.window()["total"] == 1)
    await gateway.receives(1, "user:ada")

    assert gateway.items["user:ada"][0] == gateway.states("user:ada")[0]


async def test_an_unreadable_event_does_not_stop_the_next(
    replica: Replica, attach: Attach, scores: FakeScores, redis: Redis
) -> None:
    gateway = await attach(replica, "user:ada")
    await gateway.begun("user:ada")

    await redis.xadd("{events}:awards", {"batch": b"\xff\xff"})
    await redis.xadd("{events}:awards", {"other": b""})
    await scores.award(("ada", 50))

    await gateway.receives(1, "user:ada")


async def test_awards_are_published_also_when_scores_was_unavailable(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    scores.unavailable = True
    gateway = await attach(replica, "user:ada")
    await gateway.begun("user:ada")
    assert gateway.states("user:ada")[0].stale

    await scores.award(("ada", 50))
    await gateway.receives(1, "user:ada")


async def test_after_events_were_lost_watched_players_and_boards_are_read_again(
    replica: Replica, attach: Attach, scores: FakeScores, redis: Redis
) -> None:
    gateway = await attach(replica, BOARD, "user:ada", "user:bob")
    await gateway.begun(BOARD, "user:ada", "user:bob")
    await scores.award(("ada", 50))
    await gateway.receives(1, "user:ada")

    # Moved, and published in a stream that is deleted in the same step.
    scores.boards["all_time"].scores["ada"] = 70
    scores.versions["ada"] = 2
    add = ("XADD", AWARDS, "*", "batch", "")
    await redis.execute_many([add, ("DEL", AWARDS)], atomic=True)

    await gateway.leads(70)
    await gateway.until(lambda: len(gateway.states("user:ada")) == 2)
    assert decoded(gateway.states("user:ada")[1].snapshot) == {"score": 70, "rank": 1, "version": 2}
    await scores.award(("bob", 20))
    await gateway.receives(1, "user:bob")
