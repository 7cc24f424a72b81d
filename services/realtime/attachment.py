"""One gateway's stream: publications in order, batched and within bounds."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

from protos import realtime_pb2
from protos.realtime_pb2 import FeedFrame
from services.realtime.channels import Position, Publication, State

BATCH_MAX = 64  # publications in one frame
BATCH_BYTES_MAX = 64 * 1024
QUEUE_MAX = 4096  # publications waiting; a gateway that is further behind is dropped
FRAMES_MAX = 65_536  # of any kind: also states, which come in answer to the gateway


class Attachment:
    """A queue of frames for one gateway. A watcher of channels."""

    def __init__(self, gateway_id: str, *, queue_max: int = QUEUE_MAX) -> None:
        self.gateway_id = gateway_id
        self.watching: set[str] = set()
        self.ended = asyncio.Event()
        self.reason = ""  # why it ended
        self.heard_at_ms = 0
        self._queue_max = queue_max
        self._queue: deque[Publication | FeedFrame] = deque()
        self._publications = 0  # of those in the queue
        self._filled = asyncio.Event()
        self._awaited: dict[str, list[Publication]] = {}

    def publish(self, publication: Publication) -> None:
        """Sends a publication, after the state of its channel where that is still awaited."""
        held = self._awaited.get(publication.channel)
        if held is None:
            self._publications += 1
            self._put(publication)
        elif len(held) < self._queue_max:
            held.append(publication)

    def begin(self, state: State) -> None:
        """Sends a channel's state."""
        if state.unknown:
            self.watching.discard(state.channel)
        self._put(FeedFrame(state=_state(state)))

    def awaiting(self, channel: str) -> object:
        """Holds a channel's publications back until `arrived` with the answered ticket."""
        held: list[Publication] = []
        self._awaited[channel] = held
        return held

    def arrived(self, ticket: object, state: State) -> None:
        """Sends an awaited state and what was held back; nothing if it was given up or renewed."""
        if self._awaited.get(state.channel) is not ticket:
            return
        held = self._awaited.pop(state.channel)
        self.begin(state)
        for publication in held:
            self.publish(publication)

    def give_up(self, channel: str) -> None:
        """Forgets a channel's awaited state."""
        self._awaited.pop(channel, None)

    def ping(self, t: int) -> None:
        """Asks whether the gateway is there."""
        self._put(FeedFrame(ping=realtime_pb2.Ping(t=t)))

    def tops(self, positions: Mapping[str, Position]) -> None:
        """Says where the watched channels stand."""
        tops = [_position(channel, position) for channel, position in positions.items()]
        self._put(FeedFrame(tops=realtime_pb2.Tops(positions=tops)))

    def end(self, reason: str, *, at_once: bool) -> None:
        """Ends the stream with a go-away; `at_once` throws away what still waits.

        Who does not even take that is left to the end of the connection: all that is kept
        for it is the frame being written.
        """
        if self.ended.is_set():
            return
        if at_once:
            self._queue.clear()
        self.reason = reason
        self._queue.append(FeedFrame(go_away=realtime_pb2.GoAway(reason=reason)))
        self.ended.set()
        self._filled.set()

    async def frames(self) -> AsyncIterator[FeedFrame]:
        """What to write. Publications that gathered while a frame was written leave together,
        so there is no timer, and no wait when the gateway keeps up."""
        while self._queue or not self.ended.is_set():
            if self._queue:
                yield self._next()
            else:
                self._filled.clear()
                await self._filled.wait()

    def _put(self, item: Publication | FeedFrame) -> None:
        if self.ended.is_set():
            return
        self._queue.append(item)
        self._filled.set()
        if self._publications > self._queue_max or len(self._queue) > FRAMES_MAX:
            self.end("slow", at_once=True)

    def _next(self) -> FeedFrame:
        first = self._queue.popleft()
        if isinstance(first, FeedFrame):
            return first
        batch, bytes_ = [first], _size(first)
        while self._queue and len(batch) < BATCH_MAX:
            following = self._queue[0]
            if isinstance(following, FeedFrame) or bytes_ + _size(following) > BATCH_BYTES_MAX:
                break
            batch.append(following)
            bytes_ += _size(following)
            self._queue.popleft()
        self._publications -= len(batch)
        publications = [_publication(publication) for publication in batch]
        return FeedFrame(publications=realtime_pb2.Publications(publications=publications))


def _size(publication: Publication) -> int:
    return len(publication.frame) + len(publication.snapshot)


def _publication(publication: Publication) -> realtime_pb2.Publication:
    return realtime_pb2.Publication(
        channel=publication.channel,
        epoch=publication.position.epoch,
        offset=publication.position.offset,
        frame=publication.frame,
        snapshot=publication.snapshot,
        at_ms=publication.at_ms,
    )


def _position(channel: str, position: Position) -> realtime_pb2.Position:
    return realtime_pb2.Position(channel=channel, epoch=position.epoch, offset=position.offset)


def _state(state: State) -> realtime_pb2.ChannelState:
    return realtime_pb2.ChannelState(
        channel=state.channel,
        epoch=state.position.epoch,
        offset=state.position.offset,
        snapshot=state.snapshot,
        stale=state.stale,
        history=[_publication(publication) for publication in state.history],
        unknown=state.unknown,
    )
