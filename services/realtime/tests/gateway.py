"""A gateway as these tests need it: attaches, keeps what it receives, answers pings."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import msgspec

from chassis.testing import eventually
from protos.realtime_pb2 import (
    ChannelState,
    FeedFrame,
    GatewayFrame,
    Hello,
    Interest,
    Pong,
    Position,
    Publication,
)
from protos.realtime_pb2_grpc import RealtimeStub

BOARD = "leaderboard:all_time"


class Gateway:
    def __init__(self, call: Any) -> None:
        self._call = call
        self.items: dict[str, list[ChannelState | Publication]] = defaultdict(list)
        self.tops: dict[str, Position] = {}
        self.batches: list[int] = []
        self.go_away = ""  # the reason of the go-away
        self.ended = False
        self.answering = True
        self.pings = 0
        self.reading = asyncio.Event()
        self.reading.set()

    async def watch(self, *channels: str, epoch: str = "", offset: int = 0) -> None:
        add = [Position(channel=channel, epoch=epoch, offset=offset) for channel in channels]
        await self._call.write(GatewayFrame(interest=Interest(add=add)))

    async def unwatch(self, *channels: str) -> None:
        await self._call.write(GatewayFrame(interest=Interest(remove=channels)))

    def hang_up(self) -> None:
        self._call.cancel()

    def states(self, channel: str = BOARD) -> list[ChannelState]:
        return [item for item in self.items[channel] if isinstance(item, ChannelState)]

    def publications(self, channel: str = BOARD) -> list[Publication]:
        return [item for item in self.items[channel] if isinstance(item, Publication)]

    def data(self, channel: str) -> list[Any]:
        """The data of the frames published on a channel."""
        return [decoded(item.frame)["data"] for item in self.publications(channel)]

    def window(self, channel: str = BOARD) -> Any:
        """The data of the newest snapshot of a channel."""
        items = self.items[channel]
        return decoded(items[-1].snapshot) if items else {"entries": [], "total": -1, "period": ""}

    def position(self, channel: str = BOARD) -> tuple[str, int]:
        items = self.items[channel]
        return (items[-1].epoch, items[-1].offset) if items else ("", 0)

    async def until(self, condition: Callable[[], object], timeout_s: float = 10) -> None:
        async def met() -> bool:
            return bool(condition())

        await eventually(met, timeout_s=timeout_s)

    async def begun(self, *channels: str) -> None:
        """Until the channels' states are received, and those of boards have a position."""

        def positioned(channel: str) -> bool:
            return bool(self.position(channel)[0] or channel.startswith("user:"))

        await self.until(
            lambda: all(self.states(c) and positioned(c) for c in channels or (BOARD,))
        )

    async def receives(self, count: int, channel: str = BOARD) -> None:
        """Until so many publications of the channel were received."""
        await self.until(lambda: len(self.publications(channel)) >= count)

    async def leads(self, score: int, timeout_s: float = 10) -> None:
        """Until the window's first entry has that score."""
        await self.until(lambda: self.best() == score, timeout_s=timeout_s)

    async def moved_on(self, epoch: str) -> None:
        """Until the board has another epoch."""
        await self.until(lambda: self.position()[0] not in ("", epoch))

    async def pinged(self, times: int) -> None:
        """Until so many more pings came."""
        before = self.pings
        await self.until(lambda: self.pings >= before + times)

    def best(self) -> int:
        """The score of the window's first entry; 0 when there is none."""
        entries = self.window()["entries"]
        return int(entries[0]["score"]) if entries else 0

    async def read(self) -> None:
        try:
            async for frame in self._call:
                await self.reading.wait()
                await self._take(frame)
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        finally:
            self.ended = True

    async def _take(self, frame: FeedFrame) -> None:
        if frame.HasField("state"):
            self.items[frame.state.channel].append(frame.state)
        for publication in frame.publications.publications:
            self.items[publication.channel].append(publication)
        if frame.HasField("publications"):
            self.batches.append(len(frame.publications.publications))
        if frame.HasField("tops"):
            self.tops = {position.channel: position for position in frame.tops.positions}
        if frame.HasField("go_away"):
            self.go_away = frame.go_away.reason
        if frame.HasField("ping"):
            self.pings += 1
        if frame.HasField("ping") and self.answering:
            await self._call.write(GatewayFrame(pong=Pong(t=frame.ping.t)))


@asynccontextmanager
async def attached(channel: grpc.aio.Channel, *watching: str) -> AsyncIterator[Gateway]:
    """A gateway attached to the replica behind `channel`, watching those channels."""
    call = RealtimeStub(channel).Attach()
    gateway = Gateway(call)
    await call.write(GatewayFrame(hello=Hello(gateway_id="test")))
    reading = asyncio.create_task(gateway.read())
    try:
        if watching:
            await gateway.watch(*watching)
        yield gateway
    finally:
        call.cancel()
        gateway.reading.set()
        await asyncio.wait([reading])


def decoded(data: bytes) -> Any:
    return msgspec.json.decode(data)
