"""The live side: one socket that survives losses, and the board it shows.

The rules are the live channel's: an offset at or below the known one is dropped, the
next one applied, anything else is a gap that is repaired by subscribing again from
the last position. Reconnecting waits half of min(30, 2ⁿ) seconds and a random rest.
"""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

GOOD_AFTER_S = 10.0
STOP_FROM = 4500  # close codes from here on mean: do not come back
REFRESH_FIRST = 4005


@dataclass(frozen=True)
class Board:
    """A board's window right after a change."""

    channel: str
    epoch: str
    offset: int
    entries: list[dict[str, Any]]  # position, rank, userId, username, score; by position
    total: int
    recovered: bool = False  # made of replayed changes after a reconnection


@dataclass(frozen=True)
class Personal:
    """An event of one's own channel: `score.updated`, `leaderboard.overtaken` …

    The first is `subscribed`, with one's present `{score, rank, version}`; so is a `snapshot`, sent
    when events before it may be lost.
    """

    event: str
    data: dict[str, Any]


@dataclass
class _View:
    epoch: str = ""
    offset: int = 0
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    total: int = 0
    request_id: int = 0  # of the last `subscribe`; 0: there was none
    repair: asyncio.Task[None] | None = None


class Closed(Exception):
    """The server ended the socket for good; `code` is its close code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"closed with {code}")


class Live:
    """A live connection to the boards named; iterate over `events()`."""

    def __init__(
        self,
        base_url: str,
        *,
        boards: tuple[str, ...] = ("leaderboard:all_time",),
        token: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """`token` is an access token; without one only public boards can be watched."""
        self._url = base_url.rstrip("/").replace("http", "ws", 1) + "/ws/leaderboard"
        self._token = token
        self._headers = headers or {}
        self._views = {board: _View() for board in boards}
        self._ids = itertools.count(1)

    async def events(self) -> AsyncIterator[Board | Personal]:
        """Boards and personal events as they come, across reconnections.

        Raises Closed when the server says not to come back.
        """
        failures = 0
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as session:
            while True:
                since = loop.time()
                wait_s: float | None = None
                try:
                    async for event in self._connection(session):
                        yield event
                except Closed as closed:
                    if closed.code >= STOP_FROM or closed.code == REFRESH_FIRST:
                        raise
                except _Shutdown as shutdown:
                    wait_s = random.uniform(*shutdown.wait_ms) / 1000  # noqa: S311
                except (aiohttp.ClientError, OSError, TimeoutError):
                    pass
                failures = 0 if loop.time() - since > GOOD_AFTER_S else failures + 1
                if wait_s is None:
                    cap = min(30, 2 ** max(0, failures - 1))
                    wait_s = cap / 2 + random.uniform(0, cap / 2)  # noqa: S311
                await asyncio.sleep(wait_s)

    async def _connection(self, session: aiohttp.ClientSession) -> AsyncIterator[Board | Personal]:
        async with session.ws_connect(
            self._url, protocols=("scoreboard.v1.json",), headers=self._headers, compress=0
        ) as socket:
            subs = [_subscription(board, view) for board, view in self._views.items()]
            connect: dict[str, Any] = {"type": "connect", "id": next(self._ids), "subs": subs}
            if self._token:
                connect["token"] = self._token
            await socket.send_json(connect)
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    for event in await self._frame(socket, json.loads(message.data)):
                        yield event
        raise Closed(socket.close_code or 1006)

    async def _frame(
        self, socket: aiohttp.ClientWebSocketResponse, frame: dict[str, Any]
    ) -> list[Board | Personal]:
        """What one frame of the server means to a watcher."""
        view = self._views.get(frame.get("channel", ""))
        match frame["type"]:
            case "ping":
                await socket.send_json({"type": "pong", "t": frame["t"]})
            case "shutdown":
                raise _Shutdown(frame["reconnectMs"])
            case "welcome":
                return [self._subscribed(subscribed) for subscribed in frame["subs"]]
            case "subscribed":
                return [self._subscribed(frame)]
            case "snapshot" if view:
                _apply(view, frame)
                return [_board(frame["channel"], view)]
            case "delta" if view:
                return self._delta(socket, view, frame)
            case "unsubscribed" | "error" if frame["code"] == "unavailable":
                self._unavailable(socket, frame)
            case "snapshot" | "delta":
                return [Personal(frame.get("event", "snapshot"), frame["data"])]
        return []

    def _delta(
        self, socket: aiohttp.ClientWebSocketResponse, view: _View, frame: dict[str, Any]
    ) -> list[Board | Personal]:
        ahead = frame["offset"] - view.offset
        if frame["epoch"] == view.epoch and ahead == 1:
            _apply(view, frame)
            return [_board(frame["channel"], view)]
        if frame["epoch"] != view.epoch or ahead > 1:
            self._subscribe_again(socket, frame["channel"], view)
        return []

    def _unavailable(self, socket: aiohttp.ClientWebSocketResponse, frame: dict[str, Any]) -> None:
        """A board of `connect` by its channel, one of `subscribe` by the id of that."""
        for channel, view in self._views.items():
            if frame.get("channel") == channel or frame.get("id") == view.request_id:
                self._subscribe_again(socket, channel, view)

    def _subscribe_again(
        self, socket: aiohttp.ClientWebSocketResponse, channel: str, view: _View
    ) -> None:
        """From the last position, after a moment: a gap seldom has one victim."""
        if view.repair is None or view.repair.done():
            view.repair = asyncio.create_task(self._repair(socket, channel, view))

    async def _repair(
        self, socket: aiohttp.ClientWebSocketResponse, channel: str, view: _View
    ) -> None:
        await asyncio.sleep(random.uniform(0, 2))  # noqa: S311
        view.request_id = next(self._ids)
        again = {"type": "subscribe", "id": view.request_id, **_subscription(channel, view)}
        with suppress(ConnectionError):
            await socket.send_json(again)

    def _subscribed(self, frame: dict[str, Any]) -> Board | Personal:
        view = self._views.get(frame["channel"])
        if view is None:
            return Personal("subscribed", frame["snapshot"])
        if frame["recovered"]:
            for delta in frame["replay"]:
                if delta["offset"] == view.offset + 1:
                    _apply(view, delta)
        else:
            _show(view, frame["epoch"], frame["offset"], frame["snapshot"])
        return _board(frame["channel"], view, recovered=frame["recovered"])


async def watch(base_url: str, *, board: str = "all_time", token: str = "") -> AsyncIterator[Board]:
    """The board's window at first, and after every change, forever."""
    live = Live(base_url, boards=(f"leaderboard:{board}",), token=token)
    async for event in live.events():
        if isinstance(event, Board):
            yield event


class _Shutdown(Exception):
    def __init__(self, wait_ms: tuple[int, int]) -> None:
        super().__init__("the server shuts down")
        self.wait_ms = wait_ms


def _subscription(channel: str, view: _View) -> dict[str, Any]:
    subscription: dict[str, Any] = {"channel": channel}
    if view.epoch:
        subscription["since"] = {"epoch": view.epoch, "offset": view.offset}
    return subscription


def _show(view: _View, epoch: str, offset: int, data: dict[str, Any]) -> None:
    view.epoch, view.offset, view.total = epoch, offset, data["total"]
    view.entries = {entry["userId"]: entry for entry in data["entries"]}


def _apply(view: _View, frame: dict[str, Any]) -> None:
    if frame["type"] == "snapshot":
        _show(view, frame["epoch"], frame["offset"], frame["data"])
        return
    data = frame["data"]
    view.offset, view.total = frame["offset"], data["total"]
    for user in data["removed"]:
        view.entries.pop(user, None)
    for change in data["changes"]:
        view.entries[change["userId"]] = {
            name: change[name] for name in ("position", "rank", "userId", "username", "score")
        }


def _board(channel: str, view: _View, *, recovered: bool = False) -> Board:
    entries = sorted(view.entries.values(), key=lambda entry: entry["position"])
    return Board(channel, view.epoch, view.offset, entries, view.total, recovered)
