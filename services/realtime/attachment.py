"""One gateway's stream: publications in order, batched and within bounds."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from protos import realtime_pb2
from protos.realtime_pb2 import ChannelState, FeedFrame
from services.realtime.frames import Publication

BATCH_MAX = 64  # publications in one frame
BATCH_BYTES_MAX = 64 * 1024
QUEUE_MAX = 4096  # publications waiting; a gateway that is further behind is dropped
FRAMES_MAX = 65_536  # of any kind: also states, which the gateway requests


class Attachment:
    """A queue of frames for one gateway, which watches channels. No method waits but `frames`."""

    def __init__(self, gateway_id: str, *, queue_max: int) -> None:
        self.gateway_id = gateway_id
        self.watching: set[str] = set()
        self.ended = asyncio.Event()
        self.reason = ""  # why it ended
        self.received_at_ms = 0  # the gateway's last frame
        self._queue_max = queue_max
        self._queue: deque[Publication | FeedFrame] = deque()
        self._publications = 0  # of those in the queue
        self._filled = asyncio.Event()
        self._held: dict[str, list[Publication]] = {}  # by channels whose state is requested

    def publish(self, publication: Publication) -> None:
        """Sends a publication, or holds it until the state of its channel was sent."""
        held = self._held.get(publication.channel)
        if held is None:
            self._publications += 1
            self.send(publication)
        elif len(held) < self._queue_max:
            held.append(publication)

    def send_state(self, state: ChannelState) -> None:
        """Sends a channel's state."""
        if state.unknown:
            self.watching.discard(state.channel)
        self.send(FeedFrame(state=state))

    def send(self, item: Publication | FeedFrame) -> None:
        """Sends what `publish` and `send_state` do not hold back, behind what waits already."""
        if self.ended.is_set():
            return
        self._queue.append(item)
        self._filled.set()
        if self._publications > self._queue_max or len(self._queue) > FRAMES_MAX:
            self.end("slow", at_once=True)

    def hold(self, channel: str) -> object:
        """Holds a channel's publications until `release` with the returned ticket.

        Those of an earlier ticket, which ends, are held on.
        """
        held = list(self._held.get(channel, ()))
        self._held[channel] = held
        return held

    def release(self, ticket: object, state: ChannelState) -> None:
        """Sends a state and what was held for it; nothing if dropped or held again since."""
        if not self.holds(state.channel, ticket):
            return
        held = self._held.pop(state.channel)
        self.send_state(state)
        for publication in held:
            self.publish(publication)

    def holds(self, channel: str, ticket: object) -> bool:
        """Whether the channel is still held for that ticket; never once the stream has ended."""
        return self._held.get(channel) is ticket and not self.ended.is_set()

    def drop(self, channel: str) -> None:
        """Drops what is held for a channel, and the state that it is held for."""
        self._held.pop(channel, None)

    def end(self, reason: str, *, at_once: bool) -> None:
        """Ends the stream with a go-away; `at_once` drops what still waits.

        For a gateway that reads nothing, only the frame being written is kept.
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
        """The frames to write. Publications queued while a frame was written share the next.

        So there is no timer, and no wait when the gateway keeps up.
        """
        while self._queue or not self.ended.is_set():
            if self._queue:
                yield self._next()
            else:
                self._filled.clear()
                await self._filled.wait()

    def _next(self) -> FeedFrame:
        first = self._queue.popleft()
        if isinstance(first, FeedFrame):
            return first
        batch, bytes_ = [first], first.size
        while self._queue and len(batch) < BATCH_MAX:
            following = self._queue[0]
            if isinstance(following, FeedFrame) or bytes_ + following.size > BATCH_BYTES_MAX:
                break
            batch.append(following)
            bytes_ += following.size
            self._queue.popleft()
        self._publications -= len(batch)
        publications = [publication.message() for publication in batch]
        return FeedFrame(publications=realtime_pb2.Publications(publications=publications))
