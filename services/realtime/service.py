"""The calls of Realtime: one stream for each gateway process."""

import asyncio
from collections.abc import AsyncIterator, Coroutine

import grpc
from prometheus_client import Gauge

from chassis import clock
from chassis.errors import Failed, Invalid, Timeout
from chassis.telemetry import log
from protos import realtime_pb2
from protos.realtime_pb2 import FeedFrame, GatewayFrame
from protos.realtime_pb2_grpc import RealtimeServicer
from services.realtime.attachment import QUEUE_MAX, Attachment
from services.realtime.boards import Boards
from services.realtime.channels import Channels
from services.realtime.frames import Position
from services.realtime.user_channels import PREFIX, UserChannels

PING_S = 5.0
TOPS_S = 10.0
SILENT_S = 15.0  # after which a gateway that sends nothing is dropped

attached = Gauge("live_gateways", "Gateways attached")


class HelloMissing(Invalid):
    """The first frame of the stream must be a hello."""


class RealtimeService(RealtimeServicer):
    """See protos/realtime.proto for what each frame means."""

    def __init__(
        self,
        channels: Channels,
        users: UserChannels,
        boards: Boards,
        *,
        ping_s: float = PING_S,
        tops_s: float = TOPS_S,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._channels = channels
        self._users = users
        self._boards = boards
        self._ping_s = ping_s
        self._tops_s = tops_s
        self._queue_max = queue_max
        self._attachments: set[Attachment] = set()
        self._beginning: set[asyncio.Task[None]] = set()  # channels whose state is requested
        self._draining = False

    async def Attach(
        self,
        request_iterator: AsyncIterator[GatewayFrame],
        context: grpc.aio.ServicerContext[GatewayFrame, FeedFrame],
    ) -> AsyncIterator[FeedFrame]:
        attachment = Attachment(await _hello(request_iterator), queue_max=self._queue_max)
        self._attach(attachment)
        tasks = [
            asyncio.create_task(self._receive(request_iterator, attachment)),
            asyncio.create_task(self._beat(attachment)),
        ]
        try:
            async for frame in attachment.frames():
                yield frame
        finally:
            for task in tasks:
                task.cancel()
            self._detach(attachment)

    def drain(self) -> None:
        """Ends every gateway's stream, after what is still queued."""
        self._draining = True
        for attachment in tuple(self._attachments):
            attachment.end("draining", at_once=False)

    def _attach(self, attachment: Attachment) -> None:
        attachment.received_at_ms = clock.now_ms()
        self._attachments.add(attachment)
        attached.inc()
        log.info("gateway_attached", gateway=attachment.gateway_id)
        if self._draining:
            attachment.end("draining", at_once=False)

    def _detach(self, attachment: Attachment) -> None:
        attachment.end("closed", at_once=True)
        for channel in attachment.watching:
            self._channels.unwatch(channel, attachment)
        self._attachments.discard(attachment)
        attached.dec()
        log.info("gateway_detached", gateway=attachment.gateway_id, reason=attachment.reason)

    async def _receive(self, frames: AsyncIterator[GatewayFrame], attachment: Attachment) -> None:
        async for frame in frames:
            attachment.received_at_ms = clock.now_ms()
            if frame.HasField("interest") and not attachment.ended.is_set():
                for channel in frame.interest.remove:
                    self._unwatch(channel, attachment)
                for position in frame.interest.add:
                    self._watch(position, attachment)
        attachment.end("closed", at_once=True)

    async def _beat(self, attachment: Attachment) -> None:
        """Sends pings and the positions of boards, and drops a gateway that is silent."""
        tops_at_ms = clock.now_ms() + self._tops_s * 1000
        while not attachment.ended.is_set():
            await asyncio.sleep(self._ping_s)
            now_ms = clock.now_ms()
            if now_ms - attachment.received_at_ms > SILENT_S * 1000:
                attachment.end("silent", at_once=True)
            attachment.send(FeedFrame(ping=realtime_pb2.Ping(t=now_ms)))
            if now_ms >= tops_at_ms:
                tops_at_ms = now_ms + self._tops_s * 1000
                attachment.send(FeedFrame(tops=self._channels.tops(attachment.watching)))

    def _watch(self, position: realtime_pb2.Position, attachment: Attachment) -> None:
        channel = position.channel
        if channel.startswith(PREFIX):
            self._watch_user(channel, attachment)
        elif self._channels.known(channel):
            self._watch_board(position, attachment)
        else:
            self._look_for(position, attachment)

    def _watch_board(self, position: realtime_pb2.Position, attachment: Attachment) -> None:
        channel = position.channel
        attachment.drop(channel)
        state = self._channels.state(channel, Position(position.epoch, position.offset))
        attachment.send_state(state)
        if not state.unknown:
            attachment.watching.add(channel)
            self._channels.watch(channel, attachment)

    def _look_for(self, position: realtime_pb2.Position, attachment: Attachment) -> None:
        channel = position.channel
        ticket = attachment.hold(channel)

        async def look() -> None:
            try:
                await self._boards.look_for(channel)
            except (Failed, TimeoutError) as error:
                # No state, so that the client is sent `unavailable`: there may be such a board.
                log.warning("board_not_looked_for", channel=channel, error=repr(error))
                return
            if attachment.holds(channel, ticket):
                self._watch_board(position, attachment)

        self._begin(look())

    def _watch_user(self, channel: str, attachment: Attachment) -> None:
        # Watched and held from now on, so that no award falls between the reply and watching.
        ticket = attachment.hold(channel)
        attachment.watching.add(channel)
        self._channels.watch(channel, attachment)

        async def begin() -> None:
            attachment.release(ticket, await self._users.state(channel))

        self._begin(begin())

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _unwatch(self, channel: str, attachment: Attachment) -> None:
        self._channels.unwatch(channel, attachment)
        attachment.watching.discard(channel)
        attachment.drop(channel)


async def _hello(frames: AsyncIterator[GatewayFrame]) -> str:
    try:
        async with asyncio.timeout(SILENT_S):
            first = await anext(frames, None)
    except TimeoutError:
        raise Timeout from None
    if first is None or not first.HasField("hello"):
        raise HelloMissing
    return str(first.hello.gateway_id)
