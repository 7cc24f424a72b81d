"""The write side of one WebSocket: ready frames out at once, a bounded queue, the closing.

Frames go straight to the transport: the very same bytes to every socket, no coroutine, no
copy. What the peer does not read waits in the transport's buffer, and that is the queue
the limits speak of.
"""

import asyncio

from aiohttp import web
from msgspec import Struct
from prometheus_client import Counter

from gateway.live import frames
from gateway.live.channels import Channel
from gateway.live.limits import LiveLimits

closes = Counter("live_closes_total", "Sockets closed by this side", ["code"])
# A counter that appears with its first event has no rate for it.
for _code in frames.CLOSE_CODES:
    closes.labels(_code)
conflations = Counter("live_conflations_total", "Times a slow socket lost deltas for a snapshot")


class Outlet:
    """Frames leave in the order of the calls; nothing here waits for the peer."""

    __slots__ = (
        "_behind",
        "_catching_up",
        "_deadline",
        "_frames",
        "_limits",
        "_transport",
        "_ws",
        "closing",
    )

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, limits: LiveLimits
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._limits = limits
        self._frames = 0  # written since the transport's buffer was last seen empty
        self._behind: dict[Channel, None] = {}
        self._catching_up: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.closing = False

    def deliver(self, channel: Channel, ready: bytes, count: int) -> None:
        """Writes a channel's frames, unless this socket is so slow that it gets one
        snapshot instead once it has read what waits."""
        transport = self._transport
        queued = transport.get_write_buffer_size()
        if not queued and not self._behind:
            # The way of almost every frame, so it is kept short.
            if not (self.closing or self._ws.closed or transport.is_closing()):
                self._frames = count
                transport.write(ready)
        elif channel not in self._behind:
            limits = self._limits
            is_slow = queued > limits.conflate_bytes or self._frames > limits.conflate_frames
            if channel.personal or not queued or not is_slow:
                self.write(ready, count)
                return
            conflations.inc()
            self._behind[channel] = None
            if self._catching_up is None:
                self._catching_up = asyncio.create_task(self._catch_up())

    def send(self, frame: Struct) -> None:
        """Writes one frame of the protocol."""
        self.write(frames.encode(frame))

    def write(self, ready: bytes, count: int = 1) -> None:
        """Writes ready WebSocket frames; closes instead where too much waits already."""
        if self._mute():
            return
        queued = self._transport.get_write_buffer_size()
        if not queued:
            self._frames = 0
        elif queued > self._limits.bytes_max or self._frames > self._limits.frames_max:
            self.close(frames.SLOW_CONSUMER)
            return
        self._frames += count
        self._transport.write(ready)

    def close(self, code: int, reason: str = "") -> None:
        """Begins to close, once: the close frame, then time for the peer to answer it.

        Not by aiohttp's `close`, which ends the connection at once when another task is
        reading, and waits without end for a peer that reads nothing.
        """
        if self.closing:
            return
        if not self._mute():
            closes.labels(code).inc()
            self._transport.write(frames.closing(code, reason))
        self.closing = True
        self._end_soon()

    def end(self) -> None:
        """Ends the connection, once the peer has sent its last frame."""
        self.closing = True
        if self._catching_up:
            self._catching_up.cancel()
        self._transport.close()
        if self._deadline and not self._transport.get_write_buffer_size():
            self._deadline.cancel()
        elif self._deadline is None:
            self._end_soon()

    def _end_soon(self) -> None:
        # Else what the peer does not read would stay in memory.
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._limits.closing_s, self._transport.abort)

    def _mute(self) -> bool:
        # After a close frame nothing may follow; aiohttp sends some on its own.
        return self.closing or self._ws.closed or self._transport.is_closing()

    async def _catch_up(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.blocked_s
        while self._transport.get_write_buffer_size() and not self.closing:
            if loop.time() > until:
                self.close(frames.SLOW_CONSUMER)
                return
            await asyncio.sleep(0.05)
        behind, self._behind = self._behind, {}
        self._catching_up = None
        for channel in behind:
            if self in channel.subscribers:
                self.write(channel.snapshot_frame("conflated"))
