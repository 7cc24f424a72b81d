"""This process's one stream to realtime, and the fan-out of what it brings.

However many sockets watch a channel, it is requested once, its publications arrive once as
finished client frames, and each socket is written the same bytes. When the stream is lost the
sockets stay: the hub attaches again, sends where every channel stands, and what was missed comes
as history or, where that is not held, as one snapshot.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from itertools import groupby, islice

import grpc
from prometheus_client import Counter, Gauge, Histogram

from chassis import clock, telemetry
from chassis.errors import Missing, Unavailable
from chassis.process import background
from chassis.telemetry import log
from gateway.live.channels import Channel, Subscriber
from protos import realtime_pb2, realtime_pb2_grpc

attachments = Counter("live_attachments_total", "Streams to realtime opened")
delivered = Counter("live_frames_delivered_total", "Publications handed to sockets")
channels_held = Gauge("live_channels", "Channels this process watches")
award_to_frame_s = Histogram(
    "scoreboard_award_to_frame_seconds",
    "From an award to the sockets that have its frame: of the oldest that a frame shows first",
    buckets=sorted({*telemetry.BUCKETS_S, 0.2}),  # 200 ms is promised.
)


class UnknownChannel(Missing):
    """There is no such channel."""


class FeedUnavailable(Unavailable):
    """The channel's state is not to be had right now."""


@dataclass(frozen=True, kw_only=True)
class HubLimits:
    linger_s: float = 10.0  # a channel is kept so long after its last subscriber
    state_s: float = 3.0  # a new channel's state must be here by then
    silent_s: float = 30.0  # without a frame the stream is taken for dead; tops come each 10 s
    pause_min_s: float = 0.1  # before attaching again, doubling
    pause_max_s: float = 2.0
    slice: int = 500  # sockets written in one turn of the event loop
    interest_max: int = 1_000  # positions in one frame


class Hub:
    """The channels of this process, and the stream that feeds them."""

    def __init__(
        self, stub: realtime_pb2_grpc.RealtimeStub, gateway_id: str, limits: HubLimits | None = None
    ) -> None:
        self._stub = stub
        self._gateway_id = gateway_id
        self._limits = limits or HubLimits()
        self._channels: dict[str, Channel] = {}
        # What the stream has yet to send; the event wakes it.
        self._wanted: dict[str, None] = {}
        self._dropped: dict[str, None] = {}
        self._pongs: list[int] = []
        self._news = asyncio.Event()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Attached to realtime, or trying to be, within the context."""
        return background(self._stay_attached())

    async def hold(self, name: str) -> Channel:
        """The channel with its state, kept until `release`.

        Raises UnknownChannel, and FeedUnavailable when no state is known in time.
        """
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name)
            channels_held.set(len(self._channels))
        channel.holds += 1
        if channel.forgetting:
            channel.forgetting.cancel()
            channel.forgetting = None
        # A personal channel's is requested each time: its publications carry no new one.
        if not channel.known or channel.personal:
            try:
                await self._state(channel)
            except BaseException:
                self.release(channel)
                raise
        return channel

    def release(self, channel: Channel) -> None:
        """Takes back one `hold`. The last one's interest ends a little later, so that a
        page that reloads does not begin at nothing."""
        channel.holds -= 1
        if channel.holds == 0:
            loop = asyncio.get_running_loop()
            channel.forgetting = loop.call_later(self._limits.linger_s, self._forget, channel)

    def leave(self, channel: Channel, subscriber: Subscriber) -> None:
        """Ends a subscription and its hold."""
        channel.subscribers.pop(subscriber, None)
        self.release(channel)

    async def _state(self, channel: Channel) -> None:
        """Waits for the channel's next state, which all who wait share."""
        if channel.awaited is None:
            channel.awaited = asyncio.get_running_loop().create_future()
        awaited = channel.awaited
        self._request(channel)
        try:
            async with asyncio.timeout(self._limits.state_s):
                is_known = await asyncio.shield(awaited)
        except TimeoutError:
            raise FeedUnavailable from None
        if not is_known:
            raise UnknownChannel

    def _request(self, channel: Channel) -> None:
        self._dropped.pop(channel.name, None)
        self._wanted[channel.name] = None
        self._news.set()

    def _forget(self, channel: Channel) -> None:
        del self._channels[channel.name]
        channels_held.set(len(self._channels))
        self._wanted.pop(channel.name, None)
        self._dropped[channel.name] = None
        self._news.set()

    # ---- the stream ----

    async def _stay_attached(self) -> None:
        pause_s = self._limits.pause_min_s
        while True:
            attachments.inc()
            try:
                async with aclosing(self._attached()) as frames:
                    async for frame in frames:
                        pause_s = self._limits.pause_min_s
                        if frame.HasField("go_away"):
                            log.info("feed_ended", reason=frame.go_away.reason)
                            break
                        await self._take(frame)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                reason = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "silent"
                log.warning("feed_lost", reason=reason, retry_s=pause_s)
            except Exception:
                log.exception("feed_crashed")
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311
            pause_s = min(pause_s * 2, self._limits.pause_max_s)

    async def _attached(self) -> AsyncGenerator[realtime_pb2.FeedFrame, None]:
        call = self._stub.Attach(self._sent())
        try:
            while True:
                async with asyncio.timeout(self._limits.silent_s):
                    frame = await call.read()
                if frame is grpc.aio.EOF:
                    return
                yield frame
        finally:
            call.cancel()

    async def _sent(self) -> AsyncIterator[realtime_pb2.GatewayFrame]:
        yield realtime_pb2.GatewayFrame(hello=realtime_pb2.Hello(gateway_id=self._gateway_id))
        # On a new stream every channel is requested again, from where it stands.
        self._dropped.clear()
        self._pongs.clear()
        self._wanted = dict.fromkeys(self._channels)
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            while self._pongs:
                yield realtime_pb2.GatewayFrame(pong=realtime_pb2.Pong(t=self._pongs.pop()))
            while self._wanted or self._dropped:
                yield realtime_pb2.GatewayFrame(interest=self._interest())

    def _interest(self) -> realtime_pb2.Interest:
        add = list(islice(self._wanted, self._limits.interest_max))
        remove = list(islice(self._dropped, self._limits.interest_max))
        for name in add:
            del self._wanted[name]
        for name in remove:
            del self._dropped[name]
        return realtime_pb2.Interest(
            add=[self._channels[name].position() for name in add], remove=remove
        )

    async def _take(self, frame: realtime_pb2.FeedFrame) -> None:
        match frame.WhichOneof("frame"):
            case "state":
                await self._take_state(frame.state)
            case "publications":
                by_channel = groupby(frame.publications.publications, lambda p: p.channel)
                for name, publications in by_channel:
                    await self._take_publications(name, list(publications))
            case "tops":
                for position in frame.tops.positions:
                    channel = self._channels.get(position.channel)
                    if channel and channel.behind(position):
                        log.warning("feed_gap_found", channel=channel.name, by="tops")
                        self._request(channel)
            case "ping":
                # Only the newest matters, so that pings cannot pile up.
                self._pongs = [frame.ping.t]
                self._news.set()

    async def _take_state(self, state: realtime_pb2.ChannelState) -> None:
        channel = self._channels.get(state.channel)
        if channel is None:
            return  # forgotten meanwhile
        epoch, offset = channel.epoch, channel.offset
        ready = [] if state.unknown else channel.take_state(state)
        if channel.awaited is not None:
            channel.awaited.set_result(not state.unknown)
            channel.awaited = None
        elif channel.personal and not state.unknown:
            ready = [channel.snapshot_frame("gap")]  # not requested for a joiner: events are lost
        await self._fan_out(channel, ready)
        if ready and channel.epoch == epoch:
            _measure(p for p in state.history if p.offset > offset)

    async def _take_publications(
        self, name: str, publications: list[realtime_pb2.Publication]
    ) -> None:
        channel = self._channels.get(name)
        if channel is None or not channel.known:
            return
        offset = channel.offset
        ready, whole = channel.advance(publications)
        if not whole:
            log.warning("feed_gap_found", channel=name, by="offset")
            self._request(channel)
        await self._fan_out(channel, ready)
        _measure(p for p in publications if channel.personal or offset < p.offset <= channel.offset)

    async def _fan_out(self, channel: Channel, ready: list[bytes]) -> None:
        """Hands the same bytes to every subscriber of this moment, a slice at a time."""
        if not ready:
            return
        subscribers, count = list(channel.subscribers), len(ready)
        # Frames that came together leave in one write, the dearest part of a delivery.
        together = ready[0] if count == 1 else b"".join(ready)
        for start in range(0, len(subscribers), self._limits.slice):
            part = subscribers[start : start + self._limits.slice]
            if start:
                await asyncio.sleep(0)
                # A watcher that left during the pause gets nothing more.
                part = [subscriber for subscriber in part if subscriber in channel.subscribers]
            for subscriber in part:
                subscriber.deliver(channel, together, count)
        delivered.inc(count * len(subscribers))


def _measure(publications: Iterable[realtime_pb2.Publication]) -> None:
    """Takes the time from awards to now, when the sockets have those publications."""
    now_ms = clock.now_ms()
    for publication in publications:
        if publication.awarded_at_ms:
            # The two times are of different clocks.
            award_to_frame_s.observe(max(0, now_ms - publication.awarded_at_ms) / 1000)
