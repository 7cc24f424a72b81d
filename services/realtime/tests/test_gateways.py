"""How gateways attach, stay and detach."""

import grpc
import pytest

from chassis import clock
from protos import events_pb2
from protos.realtime_pb2 import GatewayFrame, Interest, Position
from protos.realtime_pb2_grpc import RealtimeStub
from services.realtime.tests.gateway import BOARD
from services.realtime.tests.replica import Attach, NewReplica, Replica
from services.realtime.tests.scores import FakeScores


async def test_a_stream_must_begin_with_a_hello(replica: Replica) -> None:
    call = RealtimeStub(replica.channel).Attach()
    await call.write(GatewayFrame(interest=Interest(add=[Position(channel=BOARD)])))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_gateway_gets_the_positions_of_its_boards_regularly(
    new_replica: NewReplica, attach: Attach
) -> None:
    replica = await new_replica(ping_s=0.05, tops_s=0.1)
    gateway = await attach(replica, BOARD, "user:ada")
    await gateway.begun()

    await gateway.until(lambda: gateway.tops)

    assert list(gateway.tops) == [BOARD]
    top = gateway.tops[BOARD]
    assert (top.epoch, top.offset) == gateway.position()


async def test_a_gateway_that_sends_nothing_is_dropped_and_one_that_answers_stays(
    new_replica: NewReplica, attach: Attach
) -> None:
    replica = await new_replica(ping_s=0.05)
    silent, answering = await attach(replica, BOARD), await attach(replica, BOARD)
    for gateway in (silent, answering):
        await gateway.until(gateway.states)
    silent.answering = False

    for seconds in (5, 10, 15, 20):
        with clock.ahead(seconds):
            await answering.pinged(3)

    await silent.until(lambda: silent.ended)
    assert silent.go_away == "silent"
    assert not answering.go_away


async def test_a_gateway_that_does_not_keep_up_is_dropped_and_its_neighbours_are_not(
    new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    replica = await new_replica(queue_max=512)
    slow, quick = await attach(replica, "user:ada"), await attach(replica, "user:ada")
    for gateway in (slow, quick):
        await gateway.begun("user:ada")

    slow.reading.clear()
    sent = 0
    while not any(attachment.ended.is_set() for attachment in replica.service._attachments):
        await scores.publish(*_events("ada", sent))
        sent += 256
        await quick.receives(sent, "user:ada")
    slow.reading.set()

    await slow.until(lambda: slow.ended)
    assert slow.go_away == "slow"
    assert sent - len(slow.publications("user:ada")) > 512
    assert not quick.ended


async def test_publications_travel_in_batches_of_at_most_64(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, "user:ada")
    await gateway.begun("user:ada")

    await scores.publish(*_events("ada", 0))
    await gateway.receives(256, "user:ada")

    assert max(gateway.batches) == 64
    assert len(gateway.batches) < 10


async def test_when_realtime_drains_gateways_get_everything_and_their_streams_end(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD, "user:ada")
    await gateway.until(lambda: gateway.states("user:ada") and gateway.position()[0])
    await scores.award(("ada", 50))
    await gateway.receives(1, "user:ada")

    replica.service.drain()

    await gateway.until(lambda: gateway.ended)
    assert gateway.go_away == "draining"
    late = await attach(replica)
    await late.until(lambda: late.ended)
    assert late.go_away == "draining"


async def test_a_gateway_that_hangs_up_leaves_nothing_behind(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD, "user:ada")
    await gateway.begun("user:ada")

    gateway.hang_up()

    await gateway.until(lambda: not replica.service._attachments)
    await gateway.until(lambda: not replica.service._channels.watched("user:ada"))
    assert not replica.service._channels.watched(BOARD)


async def test_many_players_begin_in_few_calls_to_scores(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, *(f"user:p{n}" for n in range(1_000)))

    await gateway.until(lambda: len(gateway.items) == 1_000)

    assert scores.around_calls <= 20


def _events(user_id: str, batch: int) -> list[events_pb2.ScoreEvent]:
    return [
        events_pb2.ScoreEvent(
            event_id=f"{user_id}-{batch}-{n}", user_id=user_id, username="x" * 200
        )
        for n in range(256)
    ]
