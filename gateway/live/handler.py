"""The live channel's door: handshakes, how many sockets there are, the tick, the farewell."""

import asyncio
import base64
import socket
from collections import Counter
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager

from aiohttp import hdrs, web
from prometheus_client import Gauge

from chassis.errors import Forbidden, Invalid, TooMany
from chassis.process import background, repeat
from chassis.rpc.server import deadline
from gateway.edge.addresses import prefix
from gateway.edge.errors import SHED, ServiceUnavailable
from gateway.edge.limits import refused
from gateway.edge.request import Request
from gateway.live import frames
from gateway.live.hub import Hub
from gateway.live.limits import LiveLimits
from gateway.live.outlet import Outlet
from gateway.live.session import Session, Verify

_BEARER = "scoreboard.bearer."

sockets = Gauge("live_sockets", "WebSockets open")


class OriginNotAllowed(Forbidden):
    """This origin may not open a live channel."""


class UnsupportedVersion(Invalid):
    """None of the offered versions of the protocol is spoken here."""


class NoWebSocket(Invalid):
    """This address speaks WebSocket only."""


class RateLimited(TooMany):
    """Too many connections are being opened."""


class LiveHandler:
    """Every socket of this process."""

    def __init__(
        self,
        hub: Hub,
        *,
        verify: Verify,
        allowed_origins: Collection[str],
        limits: LiveLimits,
    ) -> None:
        self._hub = hub
        self._verify = verify
        self._allowed_origins = frozenset(allowed_origins)
        self._limits = limits
        self._sessions: set[Session] = set()
        self._counts: Counter[str] = Counter()  # of sockets, by address prefix and by user
        self._draining = False
        self._emptied = asyncio.Event()
        self._permits = float(self._limits.handshakes_per_s)
        self._permits_at = 0.0

    def running(self) -> AbstractAsyncContextManager[None]:
        """Pings, deadlines and expiry are looked after within the context."""
        return background(repeat(self._check, pause_s=self._limits.tick_s))

    async def leaderboard(self, request: Request) -> web.WebSocketResponse:
        """The live channel's address: one socket from its handshake to its end.

        Raises OriginNotAllowed, UnsupportedVersion, NoWebSocket, RateLimited,
        ServiceUnavailable before the upgrade.
        """
        http, limits = request.http, self._limits
        self._admit(http)
        ws = web.WebSocketResponse(
            protocols=(frames.PROTOCOL,),
            compress=False,  # seven times the memory, half the frames
            max_msg_size=limits.message_bytes,
            autoping=False,  # a ping of the client counts as a sign of life
            autoclose=False,
            timeout=limits.closing_s,
        )
        if not ws.can_prepare(http):
            raise NoWebSocket
        ws.headers.update(request.stamp())
        await ws.prepare(http)
        deadline.set(None)  # a request's deadline is not a socket's
        transport = http.transport
        if transport is not None:
            kernel = transport.get_extra_info("socket")
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes)
            await self._run(ws, Outlet(ws, transport, limits), request)
        return ws

    def revoke(self, user_id: str) -> None:
        """Closes the sockets of a user who may not watch any more."""
        for session in self._sessions:
            if session.identity is not None and session.identity.user_id == user_id:
                session.outlet.close(frames.REVOKED, "revoked")

    async def shutdown(self, spread_s: float) -> None:
        """Takes no more sockets, announces the shutdown on the open ones, and closes them evenly
        over `spread_s`, so that they do not all come back at once."""
        self._draining = True
        leaving = list(self._sessions)
        farewell = frames.encode(
            frames.Shutdown(reason="draining", reconnect_ms=(0, round(spread_s * 1000)))
        )
        for session in leaving:
            session.outlet.write(farewell)
        for session in leaving:
            await asyncio.sleep(spread_s / len(leaving))
            session.outlet.close(frames.SHUTDOWN, "shutdown")
        while self._sessions:
            await self._emptied.wait()

    def _admit(self, request: web.BaseRequest) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin not in self._allowed_origins:
            raise OriginNotAllowed
        offered = _protocols(request)
        if offered and frames.PROTOCOL not in offered:
            raise UnsupportedVersion
        is_full = len(self._sessions) >= self._limits.sockets_per_process
        if self._draining or is_full:
            SHED["draining" if self._draining else "sockets_per_process"].inc()
            raise ServiceUnavailable("This server takes no more sockets.", retry_after_s=5)
        now = asyncio.get_running_loop().time()
        most = self._limits.handshakes_per_s
        self._permits = min(most, self._permits + (now - self._permits_at) * most)
        self._permits_at = now
        if self._permits < 1:
            SHED["handshakes_per_s"].inc()
            raise RateLimited
        self._permits -= 1

    async def _run(self, ws: web.WebSocketResponse, outlet: Outlet, request: Request) -> None:
        limits = self._limits
        counted: list[str] = []

        def admit(subject: str, limit: str, sockets_max: int) -> bool:
            self._counts[subject] += 1
            counted.append(subject)
            if self._counts[subject] <= sockets_max:
                return True
            refused.labels(limit).inc()
            return False

        session = Session(
            ws,
            outlet,
            self._hub,
            verify=self._verify,
            admit_user=lambda user_id: admit(user_id, "sockets_per_user", limits.sockets_per_user),
            token=_token(request.http),
            query_token=request.query.get("token"),
            limits=limits,
        )
        self._sessions.add(session)
        self._emptied.clear()
        sockets.inc()
        try:
            address = prefix(request.address)
            if not admit(address, "sockets_per_address", limits.sockets_per_address):
                outlet.close(frames.TOO_MANY_SOCKETS, "too many connections")
            if self._draining:
                outlet.close(frames.SHUTDOWN, "shutdown")  # admitted before, upgraded after
            await session.run()
        finally:
            sockets.dec()
            self._sessions.discard(session)
            if not self._sessions:
                self._emptied.set()
            for subject in counted:
                self._counts[subject] -= 1
                if not self._counts[subject]:
                    del self._counts[subject]

    async def _check(self) -> None:
        loop = asyncio.get_running_loop()
        for count, session in enumerate(list(self._sessions), start=1):
            session.check(loop.time())
            if count % 500 == 0:
                await asyncio.sleep(0)


def _protocols(request: web.BaseRequest) -> list[str]:
    offered = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ()))
    return [name.strip() for name in offered.split(",") if name.strip()]


def _token(request: web.BaseRequest) -> str | None:
    """The token that came with the handshake, outside the URL."""
    scheme, _, credentials = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer" and credentials:
        return credentials.strip()
    for name in _protocols(request):
        if name.startswith(_BEARER):
            encoded = name.removeprefix(_BEARER)
            padded = encoded + "=" * (-len(encoded) % 4)
            try:
                return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
            except ValueError:
                return ""  # no token verifies as this, so the socket ends as with any bad one
    return None
