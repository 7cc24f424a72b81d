"""The hub: one stream, through all its failures."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from chassis import clock
from chassis.errors import Unavailable
from chassis.testing import Certificates, eventually
from gateway.live.channels import Channel
from gateway.live.hub import FeedUnavailable, HubLimits, UnknownChannel
from gateway.tests.feed import ADA, BOARD, Board, Live, live
from protos import realtime_pb2


class Watcher:
    """A subscriber that applies the client's rule and notes what broke it."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.writes: list[bytes] = []
        self.epoch, self.offset = "", -1
        self.gaps: list[dict[str, Any]] = []

    def deliver(self, channel: Channel, ready: bytes, count: int) -> None:
        self.writes.append(ready)
        for frame in unpack(ready):
            self.take(frame)

    def take(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        if frame["type"] != "delta":
            self.epoch, self.offset = frame["epoch"], frame["offset"]
        elif (frame["epoch"], frame["offset"]) == (self.epoch, self.offset + 1):
            self.offset += 1
        elif frame["epoch"] != self.epoch or frame["offset"] > self.offset:
            self.gaps.append(frame)

    def join(self, channel: Channel) -> None:
        reply, _ = channel.join(self, 1, None)
        self.epoch, self.offset = str(reply.epoch), int(reply.offset)  # type: ignore[arg-type]


def unpack(ready: bytes) -> list[dict[str, Any]]:
    """The JSON of WebSocket text frames that lie one behind the other."""
    found = []
    while ready:
        assert ready[0] == 0x81
        length, start = ready[1], 2
        if length == 126:
            length, start = int.from_bytes(ready[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(ready[2:10], "big"), 10
        found.append(json.loads(ready[start : start + length]))
        ready = ready[start + length :]
    return found


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Live]:
    limits = HubLimits(linger_s=0.2, state_s=1.0, pause_min_s=0.01, pause_max_s=0.05, slice=3)
    async with live(certificates, hub_limits=limits) as running:
        yield running


async def _watched(server: Live) -> tuple[Channel, Watcher]:
    channel = await server.hub.hold(BOARD)
    watcher = Watcher()
    watcher.join(channel)
    return channel, watcher


async def test_many_holders_of_a_channel_attach_to_it_once(server: Live) -> None:
    await asyncio.gather(*(server.hub.hold(BOARD) for _ in range(5)))
    await server.hub.hold(BOARD)

    assert set(server.feed.interests()) == {("+", BOARD)}
    assert server.feed.received[0].hello.gateway_id == "gateway-1"


async def test_interest_ends_some_time_after_the_last_holder_left(server: Live) -> None:
    first, second = await server.hub.hold(BOARD), await server.hub.hold(BOARD)
    server.hub.release(first)
    server.hub.release(second)
    again = await server.hub.hold(BOARD)  # within the time: nothing ends
    await asyncio.sleep(0.3)
    assert ("-", BOARD) not in server.feed.interests()

    server.hub.release(again)

    async def removed() -> bool:
        return server.feed.interests()[-1] == ("-", BOARD)

    await eventually(removed)


async def test_publications_reach_every_subscriber_as_the_same_bytes(server: Live) -> None:
    watchers = [(await _watched(server))[1] for _ in range(10)]  # several slices

    server.feed.publish(count=2)

    async def arrived() -> bool:
        return all(w.offset == 2 for w in watchers)

    await eventually(arrived)
    assert all(len(w.writes) == 1 for w in watchers), "frames that came together leave together"
    assert len({id(w.writes[0]) for w in watchers}) == 1, "encoded once, not per subscriber"


async def test_who_leaves_while_a_publication_is_handed_out_receives_nothing_more(
    server: Live,
) -> None:
    channel = await server.hub.hold(BOARD)

    class Leaver(Watcher):
        def deliver(self, channel: Channel, ready: bytes, count: int) -> None:
            super().deliver(channel, ready, count)
            channel.subscribers.pop(last, None)

    leaver, last = Leaver(), Watcher()
    for watcher in (leaver, Watcher(), Watcher(), Watcher(), last):
        watcher.join(channel)
    server.feed.publish()

    async def arrived() -> bool:
        return bool(leaver.frames)

    await eventually(arrived)
    await asyncio.sleep(0.05)
    assert last.frames == []


@pytest.mark.parametrize("failed", [None, Unavailable()], ids=["ended", "broken"])
async def test_a_lost_stream_is_repaired_from_the_history(
    server: Live, failed: Unavailable | None
) -> None:
    _, watcher = await _watched(server)
    server.feed.publish()
    server.feed.cut(failed)
    for _ in range(3):
        server.feed.board.publish()  # while no one is attached

    async def whole() -> bool:
        return watcher.offset == 4

    await eventually(whole)
    server.feed.publish()

    async def goes_on() -> bool:
        return watcher.offset == 5

    await eventually(goes_on)
    assert watcher.gaps == []
    assert [f["type"] for f in watcher.frames] == ["delta"] * 5
    assert server.feed.attached == 2


async def test_the_hub_attaches_again_and_again_while_realtime_is_unavailable(server: Live) -> None:
    _, watcher = await _watched(server)
    server.feed.unavailable = True
    server.feed.cut()
    server.feed.board.publish()

    started = attempts()

    async def tried() -> bool:
        return attempts() >= started + 12  # in 20 s at least, if the pauses grew without end

    await eventually(tried)
    server.feed.unavailable = False

    async def whole() -> bool:
        return watcher.offset == 1

    await eventually(whole)
    assert watcher.gaps == []


async def test_hubs_pause_before_they_attach_again_so_that_many_are_no_flood(
    certificates: Certificates,
) -> None:
    limits = HubLimits(pause_min_s=0.4, pause_max_s=0.4)
    async with live(certificates, hub_limits=limits) as server:
        await _attached(server)
        server.feed.unavailable = True
        server.feed.cut()
        loop = asyncio.get_running_loop()
        started, started_s = attempts(), loop.time()

        async def tried() -> bool:
            return attempts() >= started + 6

        await eventually(tried)
        assert loop.time() - started_s >= 5 * 0.4 / 2  # each pause is between half and all of it


async def _attached(server: Live) -> None:
    async def attached() -> bool:
        return server.feed.attached > 0

    await eventually(attached)


def attempts() -> float:
    """How many streams to realtime were opened, or tried to be."""
    return REGISTRY.get_sample_value("live_attachments_total") or 0


async def test_a_gap_that_the_history_cannot_fill_becomes_one_snapshot(server: Live) -> None:
    _, watcher = await _watched(server)
    server.feed.publish()
    server.feed.cut()
    for _ in range(3):
        server.feed.board.publish()
    del server.feed.board.history[:-1]

    async def whole() -> bool:
        return watcher.offset == 4

    await eventually(whole)
    assert watcher.gaps == []
    assert watcher.frames[-1]["reason"] == "gap"
    assert watcher.frames[-1]["data"]["n"] == 4


async def test_another_epoch_becomes_a_snapshot(server: Live) -> None:
    _, watcher = await _watched(server)
    server.feed.publish()
    server.feed.boards[BOARD] = Board(BOARD, epoch="e2", offset=1, data={"n": "other"})
    server.feed.cut()

    async def changed() -> bool:
        return watcher.epoch == "e2"

    await eventually(changed)
    assert watcher.frames[-1]["reason"] == "epochChanged"
    assert watcher.frames[-1]["data"] == {"n": "other"}


async def test_a_stale_state_says_so(server: Live) -> None:
    _, watcher = await _watched(server)
    state = realtime_pb2.ChannelState(
        channel=BOARD, epoch="own", offset=0, snapshot=b"{}", stale=True
    )
    server.feed.send(realtime_pb2.FeedFrame(state=state))

    async def changed() -> bool:
        return watcher.epoch == "own"

    await eventually(changed)
    assert watcher.frames[-1]["reason"] == "stale"
    assert watcher.frames[-1]["stale"] is True


async def test_a_silently_lost_publication_is_found_by_the_next_and_repaired(
    server: Live,
) -> None:
    _, watcher = await _watched(server)
    server.feed.board.publish()  # never sent
    server.feed.publish()

    async def whole() -> bool:
        return watcher.offset == 2

    await eventually(whole)
    assert watcher.gaps == []


async def test_silent_loss_on_a_quiet_board_is_found_by_the_tops(server: Live) -> None:
    _, watcher = await _watched(server)
    server.feed.board.publish()  # never sent
    top = realtime_pb2.Position(channel=BOARD, epoch="e1", offset=1)
    server.feed.send(realtime_pb2.FeedFrame(tops=realtime_pb2.Tops(positions=[top])))

    async def whole() -> bool:
        return watcher.offset == 1

    await eventually(whole)
    assert watcher.gaps == []


async def test_a_publication_that_comes_twice_is_sent_once(server: Live) -> None:
    _, watcher = await _watched(server)
    server.feed.publish()
    batch = realtime_pb2.Publications(publications=server.feed.board.history)
    server.feed.send(realtime_pb2.FeedFrame(publications=batch))
    server.feed.publish()

    async def whole() -> bool:
        return watcher.offset == 2

    await eventually(whole)
    assert [f["offset"] for f in watcher.frames] == [1, 2]
    assert server.feed.interests() == [("+", BOARD)], "a repeat is no gap"


async def test_go_away_makes_the_hub_attach_again(server: Live) -> None:
    await _watched(server)
    server.feed.send(realtime_pb2.FeedFrame(go_away=realtime_pb2.GoAway(reason="draining")))

    async def again() -> bool:
        return server.feed.attached == 2

    await eventually(again)


async def test_a_ping_is_answered(server: Live) -> None:
    await server.hub.hold(BOARD)
    server.feed.send(realtime_pb2.FeedFrame(ping=realtime_pb2.Ping(t=7)))

    async def answered() -> bool:
        return any(frame.HasField("pong") and frame.pong.t == 7 for frame in server.feed.received)

    await eventually(answered)


async def test_a_silent_stream_is_given_up(certificates: Certificates) -> None:
    limits = HubLimits(silent_s=0.1, pause_min_s=0.01, pause_max_s=0.05)
    async with live(certificates, hub_limits=limits) as server:

        async def again() -> bool:
            return server.feed.attached >= 3

        await eventually(again)


async def test_an_unknown_channel_differs_from_a_feed_that_is_unavailable(server: Live) -> None:
    with pytest.raises(UnknownChannel):
        await server.hub.hold("leaderboard:nowhere")
    server.feed.unavailable = True
    server.feed.cut()
    with pytest.raises(FeedUnavailable):
        await server.hub.hold("leaderboard:daily")


async def test_a_known_board_can_be_joined_while_realtime_is_unavailable(server: Live) -> None:
    await _watched(server)
    server.feed.unavailable = True
    server.feed.cut()

    _, late = await _watched(server)

    assert late.offset == 0


async def test_a_personal_channel_sends_late_joiners_everything_since_its_state(
    server: Live,
) -> None:
    name = f"user:{ADA}"
    channel = await server.hub.hold(name)
    server.feed.publish(name, event="score.updated", version=2)

    async def received() -> bool:
        return bool(channel.recent)

    await eventually(received)
    reply, after = channel.join(Watcher(), 1, None)

    assert not isinstance(reply.epoch, str)
    assert not reply.recovered
    assert json.loads(bytes(reply.snapshot)) == {"score": 5, "rank": 2, "version": 1}  # type: ignore[arg-type]
    assert [f["data"] for f in unpack(after)] == [{"version": 2}]


async def test_each_hold_of_a_personal_channel_requests_its_present_state(server: Live) -> None:
    name = f"user:{ADA}"
    await server.hub.hold(name)
    server.feed.boards[name].data = {"score": 9, "rank": 1, "version": 3}

    channel = await server.hub.hold(name)

    assert json.loads(channel.snapshot)["version"] == 3


async def test_a_state_of_a_personal_channel_that_was_not_requested_is_a_snapshot_for_its_player(
    server: Live,
) -> None:
    """Realtime sends one when it has lost events, and the next one on a new stream."""
    name = f"user:{ADA}"
    channel, frames = await server.hub.hold(name), list[dict[str, Any]]()

    class Player:
        def deliver(self, channel: Channel, ready: bytes, count: int) -> None:
            frames.extend(unpack(ready))

    channel.join(Player(), 1, None)
    await server.hub.hold(name)  # another one joins: nothing for the first
    board = server.feed.boards[name]
    board.data = {"score": 9, "rank": 1, "version": 3}
    server.feed.send(realtime_pb2.FeedFrame(state=board.state(realtime_pb2.Position())))

    async def received() -> bool:
        return bool(frames)

    await eventually(received)

    assert frames == [{"type": "snapshot", "channel": name, "reason": "gap", "data": board.data}]


def lag() -> tuple[float, float]:
    """How many frames were measured, and the sum (s) of what they took since their awards."""
    name = "scoreboard_award_to_frame_seconds"
    count, total_s = (REGISTRY.get_sample_value(f"{name}_{part}") for part in ("count", "sum"))
    return count or 0, total_s or 0


async def test_the_time_from_an_award_to_its_frame_is_measured_once_for_all_sockets(
    server: Live,
) -> None:
    watchers = [(await _watched(server))[1] for _ in range(5)]
    count, total_s = lag()

    server.feed.publish(awarded_at_ms=clock.now_ms() - 3000)

    async def measured() -> bool:
        return lag()[0] > count

    await eventually(measured)
    assert all(watcher.offset == 1 for watcher in watchers)
    assert lag()[0] == count + 1
    assert 3 <= lag()[1] - total_s < 6


async def test_an_award_from_a_clock_that_is_ahead_takes_no_time(server: Live) -> None:
    await _watched(server)
    count, total_s = lag()

    server.feed.publish(awarded_at_ms=clock.now_ms() + 3000)

    async def measured() -> bool:
        return lag()[0] == count + 1

    await eventually(measured)
    assert lag()[1] == total_s


async def test_a_frame_without_an_award_is_not_measured_nor_is_one_that_came_before(
    server: Live,
) -> None:
    _, watcher = await _watched(server)
    count, _ = lag()
    server.feed.publish(awarded_at_ms=clock.now_ms())
    server.feed.send(server.feed.last())

    server.feed.publish()

    async def arrived() -> bool:
        return watcher.offset == 2

    await eventually(arrived)
    assert lag()[0] == count + 1


async def test_frames_that_were_missed_are_measured_when_they_are_made_up_for(server: Live) -> None:
    _, watcher = await _watched(server)
    server.feed.publish()

    async def arrived() -> bool:
        return watcher.offset == 1

    await eventually(arrived)
    count, total_s = lag()
    server.feed.cut()
    for _ in range(2):
        server.feed.board.publish(awarded_at_ms=clock.now_ms() - 5000)

    async def measured() -> bool:
        return lag()[0] == count + 2

    await eventually(measured)
    assert lag()[1] - total_s >= 10
