"""One live channel in this process: where it stands, what it can replay, who watches.

Nothing here awaits: a reply with a snapshot is composed and its receiver subscribed in one step
of the event loop, so that no publication can fall between the two.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import UNSET, Raw

from gateway.live import frames
from protos import realtime_pb2

HISTORY_MAX = 256
HISTORY_S = 120.0


class Subscriber(Protocol):
    """Where a channel's frames go."""

    def deliver(self, channel: "Channel", ready: bytes, count: int) -> None:
        """Takes `count` WebSocket frames as bytes, without waiting and without failing."""


@dataclass(frozen=True, slots=True)
class Held:
    """A publication kept for replay: the client frame's JSON, and when it came (loop time, s)."""

    offset: int
    frame: bytes
    at_s: float


@dataclass(eq=False, slots=True)
class Channel:
    """A channel of a board has an epoch and history; a personal one has neither."""

    name: str
    epoch: str = ""
    offset: int = 0
    snapshot: bytes = b""
    stale: bool = False
    known: bool = False  # a state was received
    # An unbroken run of publications that ends with the present offset.
    history: deque[Held] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    # On a personal channel: what came since the last state, for who is about to join.
    recent: deque[bytes] = field(default_factory=lambda: deque(maxlen=64))
    subscribers: dict[Subscriber, None] = field(default_factory=dict)
    awaited: asyncio.Future[bool] | None = None  # the next state: whether there is the channel
    holds: int = 0  # who watches or is about to
    forgetting: asyncio.TimerHandle | None = None

    @property
    def personal(self) -> bool:
        return self.known and not self.epoch

    def position(self) -> realtime_pb2.Position:
        """Where this process stands, to request what came later."""
        return realtime_pb2.Position(channel=self.name, epoch=self.epoch, offset=self.offset)

    def behind(self, position: realtime_pb2.Position) -> bool:
        """Whether `position`, from the feed, proves that something was missed here."""
        if not self.known or self.personal:
            return False
        return position.epoch != self.epoch or position.offset > self.offset

    def join(
        self, subscriber: Subscriber, request_id: int, since: frames.Since | None
    ) -> tuple[frames.Subscribed, bytes]:
        """Adds `subscriber`; returns the reply it must be sent now, and the ready
        WebSocket frames that must follow it."""
        self.subscribers[subscriber] = None
        reply = frames.Subscribed(id=request_id, channel=self.name, recovered=False)
        if self.personal:
            reply.snapshot = Raw(self.snapshot)
            return reply, b"".join(self.recent)
        reply.epoch, reply.offset = self.epoch, self.offset
        replay = self._since(since) if since else None
        if replay is None:
            reply.snapshot = Raw(self.snapshot)
        else:
            reply.recovered, reply.replay = True, [Raw(frame) for frame in replay]
        return reply, b""

    def take_state(self, state: realtime_pb2.ChannelState) -> list[bytes]:
        """Takes the feed's account of the channel; returns the ready WebSocket frames
        that bring the subscribers there: every one missed, or one snapshot."""
        if not state.epoch or not self.known:
            self._reset(state)
            return []
        if state.epoch != self.epoch:
            self._reset(state)
            return [self.snapshot_frame("stale" if state.stale else "epochChanged")]
        if state.offset <= self.offset:
            return []  # a replica that lags; its publications will catch up with us
        missed = [p for p in state.history if self.offset < p.offset <= state.offset]
        if [p.offset for p in missed] == list(range(self.offset + 1, state.offset + 1)):
            ready, _ = self.advance(missed)
            self.snapshot = state.snapshot
            return ready
        self._reset(state)
        return [self.snapshot_frame("gap")]

    def advance(self, publications: Iterable[realtime_pb2.Publication]) -> tuple[list[bytes], bool]:
        """Takes publications in order; returns the ready WebSocket frames of those that
        are new, and whether all followed one upon the other. After a gap nothing is
        taken: the state must be asked for."""
        ready: list[bytes] = []
        now = asyncio.get_running_loop().time()
        for publication in publications:
            if self.personal:
                ready.append(frames.ready(publication.frame))
                self.recent.append(ready[-1])
                continue
            if publication.epoch == self.epoch and publication.offset <= self.offset:
                continue
            if publication.epoch != self.epoch or publication.offset != self.offset + 1:
                return ready, False
            self.offset = publication.offset
            if publication.snapshot:
                self.snapshot = publication.snapshot
            self.history.append(Held(publication.offset, publication.frame, now))
            ready.append(frames.ready(publication.frame))
        return ready, True

    def snapshot_frame(self, reason: str) -> bytes:
        """The ready WebSocket frame that replaces what a client has."""
        return frames.encode(
            frames.Snapshot(
                channel=self.name,
                epoch=self.epoch or UNSET,
                offset=self.offset if self.epoch else UNSET,
                reason=reason,
                data=Raw(self.snapshot),
                stale=self.stale,
            )
        )

    def _since(self, since: frames.Since) -> list[bytes] | None:
        """What came after `since`, if all of it is held and smaller than a snapshot."""
        missed = self.offset - since.offset
        if since.epoch != self.epoch or not 0 <= missed <= len(self.history):
            return None
        oldest = asyncio.get_running_loop().time() - HISTORY_S
        held = list(self.history)[len(self.history) - missed :]
        if any(h.at_s < oldest for h in held):
            return None
        if held and sum(len(h.frame) for h in held) >= len(self.snapshot):
            return None
        return [h.frame for h in held]

    def _reset(self, state: realtime_pb2.ChannelState) -> None:
        self.known = True
        self.epoch, self.offset = state.epoch, state.offset
        self.snapshot, self.stale = state.snapshot, state.stale
        self.history.clear()
        self.recent.clear()
        now = asyncio.get_running_loop().time()
        for publication in state.history:
            if self.history and publication.offset != self.history[-1].offset + 1:
                self.history.clear()
            self.history.append(Held(publication.offset, publication.frame, now))
        if self.history and self.history[-1].offset != self.offset:
            self.history.clear()
