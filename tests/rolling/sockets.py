"""Many sockets of the raw protocol, which come back by the rules of `docs/live-channel.md`."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from chassis.testing import eventually

SHUTDOWN = 4001
OPENING_MAX = 50  # handshakes at once
_decode = msgspec.json.Decoder().decode


@dataclass
class Socket:
    """One watcher of a board, and what became of its connections."""

    url: str
    channel: str
    shown: dict[str, int] = field(default_factory=dict)  # user id to score
    epoch: str = ""
    offset: int = -1
    restored: Counter[str] = field(default_factory=Counter)  # by `replay` or `snapshot`
    ends: Counter[str] = field(default_factory=Counter)  # by close code, or what was raised
    gaps: int = 0

    async def follow(self, session: aiohttp.ClientSession, opening: asyncio.Semaphore) -> None:
        """Watches forever, across reconnections."""
        failures = 0
        while True:
            wait_ms: list[int] | None = None
            try:
                async with opening:
                    ws = await self._opened(session)
                try:
                    failures = 0
                    wait_ms = await self._watch(ws)
                finally:
                    await ws.close()
                announced = "" if wait_ms or ws.close_code != SHUTDOWN else " without a notice"
                self.ends[f"{ws.close_code}{announced}"] += 1
            except (aiohttp.ClientError, OSError) as error:
                self.ends[type(error).__name__] += 1
                failures += 1
            cap = min(30, 2**failures)
            low, high = wait_ms or (cap * 500, cap * 1000)
            await asyncio.sleep(random.uniform(low, high) / 1000)

    async def _opened(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        ws = await session.ws_connect(self.url, protocols=("scoreboard.v1.json",), compress=0)
        sub: dict[str, Any] = {"channel": self.channel}
        if self.epoch:
            sub["since"] = {"epoch": self.epoch, "offset": self.offset}
        await ws.send_json({"type": "connect", "id": 1, "subs": [sub]})
        return ws

    async def _watch(self, ws: aiohttp.ClientWebSocketResponse) -> list[int] | None:
        """What is sent until the end; returns `reconnectMs` where a shutdown was announced."""
        wait_ms: list[int] | None = None
        async for message in ws:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            frame = _decode(message.data)
            match frame["type"]:
                case "ping":
                    await ws.send_json({"type": "pong", "t": frame["t"]})
                case "welcome":
                    self._subscribed(frame["subs"][0])
                case "snapshot":
                    self._show(frame, frame["data"])
                case "delta":
                    self._apply(frame)
                case "shutdown":
                    wait_ms = frame["reconnectMs"]
        return wait_ms

    def _subscribed(self, frame: dict[str, Any]) -> None:
        self.restored["replay" if frame["recovered"] else "snapshot"] += 1
        if not frame["recovered"]:
            self._show(frame, frame["snapshot"])
            return
        for delta in frame["replay"]:
            self._apply(delta)
        self.gaps += (self.epoch, self.offset) != (frame["epoch"], frame["offset"])

    def _show(self, frame: dict[str, Any], data: dict[str, Any]) -> None:
        self.epoch, self.offset = frame["epoch"], frame["offset"]
        self.shown = {entry["userId"]: entry["score"] for entry in data["entries"]}

    def _apply(self, frame: dict[str, Any]) -> None:
        if frame["epoch"] == self.epoch and frame["offset"] <= self.offset:
            return
        self.gaps += (frame["epoch"], frame["offset"]) != (self.epoch, self.offset + 1)
        self.epoch, self.offset = frame["epoch"], frame["offset"]
        for user_id in frame["data"]["removed"]:
            self.shown.pop(user_id, None)
        for change in frame["data"]["changes"]:
            self.shown[change["userId"]] = change["score"]


@asynccontextmanager
async def watched(base_url: str, channel: str, *, count: int) -> AsyncIterator[list[Socket]]:
    """So many sockets, each with the board as it is."""
    url = base_url.replace("http", "ws", 1) + "/ws/leaderboard"
    found = [Socket(url, channel) for _ in range(count)]
    opening = asyncio.Semaphore(OPENING_MAX)

    async def open_() -> bool:
        return all(socket.restored for socket in found)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(socket.follow(session, opening)) for socket in found]
        try:
            await eventually(open_, timeout_s=30)
            for socket in found:
                socket.restored.clear()
            yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
