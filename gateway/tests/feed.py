"""A recording realtime that tests direct, and a live server before it, both on real wires."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from chassis import clock
from chassis.errors import Failed, Unauthenticated, Unavailable
from chassis.testing import Certificates, served
from gateway.edge import errors
from gateway.edge.identity import AccessTokenExpired, AccessTokenInvalid, Caller
from gateway.edge.request import Request
from gateway.live.handler import LiveHandler
from gateway.live.hub import Hub, HubLimits
from gateway.live.limits import LiveLimits
from gateway.live.session import SCOPE
from protos import realtime_pb2, realtime_pb2_grpc
from protos.arrows import callers

BOARD = "leaderboard:all_time"
ADA, BOB = "0190a000-0000-7000-8000-00000000000a", "0190a000-0000-7000-8000-00000000000b"


class AccountBanned(Unauthenticated):
    """Banned."""


@dataclass
class Board:
    """A channel as the fake realtime keeps it."""

    name: str
    epoch: str = "e1"
    offset: int = 0
    data: dict[str, Any] = field(default_factory=lambda: {"n": 0, "pad": "x" * 2000})
    history: list[realtime_pb2.Publication] = field(default_factory=list)

    def state(self, since: realtime_pb2.Position) -> realtime_pb2.ChannelState:
        last = since.offset if since.epoch == self.epoch else 0
        history = [p for p in self.history if p.offset > last]
        return realtime_pb2.ChannelState(
            channel=self.name,
            epoch=self.epoch,
            offset=self.offset,
            snapshot=json.dumps(self.data).encode(),
            history=history if self.epoch else [],
        )

    def publish(
        self, event: str = "leaderboard.rank_change", *, awarded_at_ms: int = 0, **data: Any
    ) -> None:
        """Appends a delta, as realtime's builder would."""
        frame: dict[str, Any] = {"type": "delta", "channel": self.name}
        if self.epoch:
            self.offset += 1
            self.data = {**self.data, "n": self.offset}
            frame |= {"epoch": self.epoch, "offset": self.offset}
        frame |= {"ts": clock.now_ms(), "event": event, "data": data}
        self.history.append(
            realtime_pb2.Publication(
                channel=self.name,
                epoch=self.epoch,
                offset=self.offset,
                frame=json.dumps(frame).encode(),
                snapshot=json.dumps(self.data).encode() if self.epoch else b"",
                at_ms=clock.now_ms(),
                awarded_at_ms=awarded_at_ms,
            )
        )


class Feed(realtime_pb2_grpc.RealtimeServicer):
    """Returns interest from its boards, and sends what a test publishes."""

    def __init__(self) -> None:
        self.boards = {BOARD: Board(BOARD)}
        for user_id in (ADA, BOB):
            name = f"user:{user_id}"
            self.boards[name] = Board(name, epoch="", data={"score": 5, "rank": 2, "version": 1})
        self.received: list[realtime_pb2.GatewayFrame] = []
        self.attached = 0
        self.unavailable = False  # refuses to be attached to
        self.mute = False  # answers no interest
        self._streams: list[asyncio.Queue[realtime_pb2.FeedFrame | Failed | None]] = []

    @property
    def board(self) -> Board:
        return self.boards[BOARD]

    def publish(self, name: str = BOARD, count: int = 1, **data: Any) -> None:
        """Publishes `count` deltas on a channel, in one batch."""
        board = self.boards[name]
        for _ in range(count):
            board.publish(**data)
        batch = realtime_pb2.Publications(publications=board.history[-count:])
        self.send(realtime_pb2.FeedFrame(publications=batch))

    def last(self, name: str = BOARD) -> realtime_pb2.FeedFrame:
        """The frame with a channel's last publication."""
        batch = realtime_pb2.Publications(publications=self.boards[name].history[-1:])
        return realtime_pb2.FeedFrame(publications=batch)

    def send(self, frame: realtime_pb2.FeedFrame) -> None:
        for stream in self._streams:
            stream.put_nowait(frame)

    def cut(self, failed: Failed | None = None) -> None:
        """Ends every stream, by an error where one is given."""
        for stream in self._streams:
            stream.put_nowait(failed)

    def interests(self) -> list[tuple[str, str]]:
        """All interest received, in order: ("+" or "-", channel)."""
        changes = [frame.interest for frame in self.received if frame.HasField("interest")]
        return [
            entry
            for interest in changes
            for entry in [("+", p.channel) for p in interest.add]
            + [("-", name) for name in interest.remove]
        ]

    async def Attach(self, requests: Any, context: Any) -> AsyncIterator[realtime_pb2.FeedFrame]:
        if self.unavailable:
            raise Unavailable
        self.attached += 1
        stream: asyncio.Queue[realtime_pb2.FeedFrame | Failed | None] = asyncio.Queue()
        self._streams.append(stream)
        listening = asyncio.create_task(self._listen(requests, stream))
        try:
            while (frame := await stream.get()) is not None:
                if isinstance(frame, Failed):
                    raise frame
                yield frame
        finally:
            self._streams.remove(stream)
            listening.cancel()

    async def _listen(self, requests: Any, stream: asyncio.Queue[Any]) -> None:
        async for frame in requests:
            self.received.append(frame)
            for position in frame.interest.add if not self.mute else ():
                board = self.boards.get(position.channel)
                state = (
                    board.state(position)
                    if board
                    else realtime_pb2.ChannelState(channel=position.channel, unknown=True)
                )
                stream.put_nowait(realtime_pb2.FeedFrame(state=state))


def verify(token: str) -> Caller:
    """`ada`, `bob`: their tokens, for an hour; `ada:90`: for 90 s. `robot` is a game server, whose
    token has a scope too many."""
    name, _, seconds = token.partition(":")
    if name == "banned":
        raise AccountBanned
    if name == "expired":
        raise AccessTokenExpired
    if name not in ("ada", "bob", "robot"):
        raise AccessTokenInvalid
    return Caller(
        user_id=ADA if name == "ada" else BOB,
        username=name,
        name_version=1,
        scopes=frozenset({SCOPE}),
        action_types=("WIN_GAME",) if name == "robot" else None,
        expires_at_ms=clock.now_ms() + int(seconds or 3600) * 1000,
    )


class Socket:
    """A client of the live channel, one frame at a time."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self._id = 0

    async def send(self, kind: str, **fields: Any) -> int:
        self._id += 1
        frame = {"type": kind, "id": self._id, **fields}
        if kind in ("ping", "pong"):
            del frame["id"]
        await self.ws.send_str(json.dumps(frame))
        return self._id

    async def next(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """The next frame that is no ping."""
        while True:
            message = await self.ws.receive(timeout=timeout_s)
            assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
            frame: dict[str, Any] = json.loads(message.data)
            if frame["type"] != "ping":
                return frame

    async def call(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Sends a frame and answers its reply, which must be the next frame."""
        request_id = await self.send(kind, **fields)
        reply = await self.next()
        assert reply.get("id") == request_id, reply
        return reply

    async def connect(self, *channels: str, **fields: Any) -> dict[str, Any]:
        return await self.call("connect", subs=[{"channel": c} for c in channels], **fields)

    async def end(self, timeout_s: float = 10.0) -> int | None:
        """Reads on until the server closes; its close code."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.ws.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return self.ws.close_code


class Live:
    """A live server and what stands behind it."""

    def __init__(
        self, feed: Feed, hub: Hub, handler: LiveHandler, url: str, client: aiohttp.ClientSession
    ) -> None:
        self.feed = feed
        self.hub = hub
        self.handler = handler
        self.url = url
        self.client = client

    @asynccontextmanager
    async def open(self, path: str = "", **options: Any) -> AsyncIterator[Socket]:
        options.setdefault("protocols", ("scoreboard.v1.json",))
        async with self.client.ws_connect(f"{self.url}/ws/leaderboard{path}", **options) as ws:
            yield Socket(ws)


Start = Callable[..., Any]


@asynccontextmanager
async def live(
    certificates: Certificates,
    *,
    limits: LiveLimits | None = None,
    hub_limits: HubLimits | None = None,
    routes: list[web.RouteDef] | None = None,
) -> AsyncIterator[Live]:
    """A live server over real HTTP, attached to a Feed over real gRPC."""
    feed = Feed()
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            served(
                "realtime",
                partial(realtime_pb2_grpc.add_RealtimeServicer_to_server, feed),
                certificates=certificates,
                callers=callers("realtime"),
                caller="gateway",
            )
        )
        hub = Hub(realtime_pb2_grpc.RealtimeStub(channel), "gateway-1", hub_limits)
        await stack.enter_async_context(hub.running())
        handler = LiveHandler(
            hub,
            verify=verify,
            allowed_origins=["https://board.example"],
            limits=limits or LiveLimits(),
        )
        await stack.enter_async_context(handler.running())

        async def leaderboard(http: web.Request) -> web.StreamResponse:
            address = http.headers.get("X-Address", "192.0.2.1")
            request = Request(
                http=http, request_id="r", address=address, params={}, query=http.query
            )
            return await handler.leaderboard(request)

        app = web.Application(middlewares=[_problems])
        app.add_routes([web.get("/ws/leaderboard", leaderboard), *(routes or [])])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        client = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        yield Live(feed, hub, handler, url, client)


@web.middleware
async def _problems(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except Failed as failed:
        return errors.response(failed, "r")
    return answer
