"""The protocol of one WebSocket: connect, subscriptions, heartbeat, expiry, and its refusals."""

import asyncio
import random
import re
from collections.abc import Callable

from aiohttp import WSMsgType, web

from chassis import clock
from chassis.errors import Failed, Forbidden
from chassis.ids import uuid7
from chassis.telemetry import log
from gateway.edge.identity import Caller
from gateway.live import frames
from gateway.live.channels import Channel
from gateway.live.hub import FeedUnavailable, Hub, UnknownChannel
from gateway.live.limits import LiveLimits
from gateway.live.outlet import Outlet

_CHANNEL = re.compile(r"[a-z0-9_:-]{1,128}")
_KINDS = ("leaderboard:", "user:", "system")
_BY_CODE = {
    "ACCESS_TOKEN_EXPIRED": frames.TOKEN_EXPIRED,
    "ACCESS_TOKEN_REVOKED": frames.REVOKED,
    "ACCOUNT_BANNED": frames.REVOKED,
    "SCOPE_MISSING": frames.FORBIDDEN,
}

SCOPE = "realtime:subscribe"

Verify = Callable[[str], Caller]  # raises Failed


class Session:
    def __init__(
        self,
        ws: web.WebSocketResponse,
        outlet: Outlet,
        hub: Hub,
        *,
        verify: Verify,
        admit_user: Callable[[str], bool],
        token: str | None,
        query_token: str | None,
        limits: LiveLimits,
    ) -> None:
        """`admit_user` counts this socket for a user and returns whether it may stay."""
        self.conn_id = uuid7()
        self.outlet = outlet
        self.identity: Caller | None = None
        self._ws = ws
        self._hub = hub
        self._verify = verify
        self._admit_user = admit_user
        self._token = token
        self._query_token = query_token
        self._limits = limits
        self._channels: dict[str, Channel] = {}
        self._connected = False
        self._warned = False  # of the coming expiry
        self._bad_frames = 0
        now = asyncio.get_running_loop().time()
        self._opened_at = self._received_at = self._bucket_at = now
        self._bucket = float(limits.frames_burst)
        # At a random moment first, so that sockets opened together are not pinged together.
        self._ping_at = now + random.uniform(0, limits.ping_s)  # noqa: S311

    async def run(self) -> None:
        """Serves the client until the socket has ended."""
        try:
            while await self._receive():
                pass
        finally:
            for channel in self._channels.values():
                self._hub.leave(channel, self.outlet)
            self.outlet.end()

    def check(self, now: float) -> None:
        """Does what is due: pings, deadlines, expiry. `now` is the loop's."""
        limits = self._limits
        if self.outlet.closing:
            return
        if not self._connected and now - self._opened_at > limits.connect_s:
            self.outlet.close(frames.NO_CONNECT, "no connect frame in time")
        elif now - self._received_at > limits.dead_s:
            self.outlet.close(frames.NO_PONG, "no frame in time")
        elif self._connected and now >= self._ping_at:
            self._ping_at = now + limits.ping_s
            self.outlet.send(frames.Ping(t=clock.now_ms()))
        if self._connected and self.identity is not None:
            left_ms = self._expires_in_ms(self.identity)
            if left_ms < -limits.expired_s * 1000:
                self.outlet.close(frames.TOKEN_EXPIRED, "token expired")
            elif left_ms < limits.expiring_s * 1000 and not self._warned:
                self._warned = True
                self.outlet.send(frames.TokenExpiring(expires_in_ms=max(0, left_ms)))

    async def _receive(self) -> bool:
        """Takes one message; whether there may be more."""
        message = await self._ws.receive()
        now = asyncio.get_running_loop().time()
        self._received_at = now
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
            self.outlet.close(frames.NORMAL)
            return False
        if self.outlet.closing:
            return True  # read on to the peer's own close frame, so that ours is not lost
        if not self._take_permit(now):
            self.outlet.close(frames.RATE_LIMITED, "too many frames")
        elif message.type is WSMsgType.BINARY:
            self.outlet.close(frames.UNSUPPORTED_DATA, "text frames only")
        elif message.type is WSMsgType.PING:
            await self._ws.pong(message.data)
        elif message.type is WSMsgType.TEXT:
            await self._take(message.data)
        return True

    def _take_permit(self, now: float) -> bool:
        grown = self._bucket + (now - self._bucket_at) * self._limits.frames_per_s
        self._bucket, self._bucket_at = min(grown, self._limits.frames_burst) - 1, now
        return self._bucket >= 0

    async def _take(self, text: str) -> None:
        request_id = None
        try:
            frame = frames.decode(text)
            request_id = getattr(frame, "id", None)
            await self._act(frame)
        except frames.Refused as refused:
            self.outlet.send(
                frames.Error(
                    id=refused.request_id or request_id,
                    code=refused.code,
                    message=str(refused),
                    retryable=refused.retryable,
                    retry_after_ms=1_000 if refused.retryable else None,
                )
            )
            self._bad_frames += isinstance(refused, frames.BadFrame)
            if self._bad_frames >= self._limits.bad_frames:
                self.outlet.close(frames.BAD_REQUEST, "too many bad frames")
        except Exception:
            log.exception("live_session_crashed", conn_id=self.conn_id)
            self.outlet.close(frames.INTERNAL)

    async def _act(self, frame: frames.ClientFrame) -> None:
        if self._connected is isinstance(frame, frames.Connect):
            raise frames.BadFrame("bad_frame", "connect comes first, and once.")
        match frame:
            case frames.Connect():
                await self._connect(frame)
            case frames.Subscribe():
                await self._subscribe(frame)
            case frames.Unsubscribe():
                self._unsubscribe(frame)
            case frames.Refresh():
                self._refresh(frame)
            case frames.Ping():
                self.outlet.send(frames.Pong(t=frame.t))

    async def _connect(self, frame: frames.Connect) -> None:
        if not self._authenticate(frame.token):
            return
        wishes = {_canonical(wish.channel): wish.since for wish in frame.subs}
        if self.identity is not None:
            wishes[f"user:{self.identity.user_id}"] = None
        if len(wishes) > self._limits.subscriptions:
            self.outlet.close(frames.TOO_MANY_SUBSCRIPTIONS, "too many subscriptions")
            return
        held = await asyncio.gather(*(self._hold(name) for name in wishes), return_exceptions=True)
        # From here on nothing awaits: what is joined is sent in the same turn of the loop.
        for name, channel in zip(wishes, held, strict=True):
            if isinstance(channel, Channel):
                self._channels[name] = channel
        self._connected = True
        subs: list[frames.Subscribed] = []
        following: list[bytes] = []
        for (name, since), channel in zip(wishes.items(), held, strict=True):
            if isinstance(channel, Channel):
                reply, after = channel.join(self.outlet, frame.id, since)
                subs.append(reply)
                following.append(after)
            elif isinstance(channel, frames.Refused):
                unsubscribed = frames.Unsubscribed(channel=name, code=channel.code)
                following.append(frames.encode(unsubscribed))
            else:
                raise channel
        self.outlet.write(frames.encode(self._welcome(frame.id, subs)) + b"".join(following))

    def _authenticate(self, token: str | None) -> bool:
        """Takes the first token that was given, if any; where it does not serve, closes."""
        tokens = (self._token, token, self._query_token)
        found = next((token for token in tokens if token is not None), None)
        if found is None:
            return True  # public channels need none
        self.identity = self._identify(found)
        if self.identity is None:
            return False
        if not self._admit_user(self.identity.user_id):
            self.outlet.close(frames.TOO_MANY_SOCKETS, "too many connections")
            return False
        return True

    def _welcome(self, request_id: int, subs: list[frames.Subscribed]) -> frames.Welcome:
        limits, session = self._limits, None
        if self.identity is not None:
            left_ms = self._expires_in_ms(self.identity)
            session = frames.Session(user_id=self.identity.user_id, expires_in_ms=left_ms)
        return frames.Welcome(
            id=request_id,
            conn_id=self.conn_id,
            server_time=clock.rfc3339(clock.now_ms()),
            session=session,
            heartbeat=frames.Heartbeat(
                interval_ms=round(limits.ping_s * 1000), timeout_ms=round(limits.dead_s * 1000)
            ),
            retry=frames.Retry(base_ms=1_000, max_ms=30_000, spread_ms=2_000),
            limits=frames.Limits(
                frame_bytes=limits.message_bytes,
                frames_per_second=round(limits.frames_per_s),
                frames_burst=limits.frames_burst,
                subscriptions=limits.subscriptions,
            ),
            subs=subs,
        )

    async def _subscribe(self, frame: frames.Subscribe) -> None:
        name = _canonical(frame.channel)
        channel = self._channels.get(name)
        if channel is None:
            if len(self._channels) >= self._limits.subscriptions:
                raise frames.Refused("limit_exceeded", "Too many subscriptions.")
            channel = await self._hold(name)
            self._channels[name] = channel
        elif frame.since is None:
            raise frames.Refused("already_subscribed", "This channel is subscribed.")
        reply, after = channel.join(self.outlet, frame.id, frame.since)
        self.outlet.write(frames.encode(reply) + after)

    def _unsubscribe(self, frame: frames.Unsubscribe) -> None:
        channel = self._channels.pop(_canonical(frame.channel), None)
        if channel is None:
            raise frames.Refused("not_subscribed", "This channel is not subscribed.")
        self._hub.leave(channel, self.outlet)
        self.outlet.send(frames.Ok(id=frame.id))

    def _refresh(self, frame: frames.Refresh) -> None:
        if self.identity is None:
            raise frames.Refused("unauthorized", "There is no session to extend.")
        identity = self._identify(frame.token)
        if identity is None:
            return
        if identity.user_id != self.identity.user_id:
            self.outlet.close(frames.INVALID_TOKEN, "another subject's token")
            return
        self.identity, self._warned = identity, False
        self.outlet.send(frames.Ok(id=frame.id))

    def _identify(self, token: str) -> Caller | None:
        """Who `token` speaks for; where that fails the socket closes."""
        try:
            identity = self._verify(token)
            if not identity.may(SCOPE):
                raise Forbidden(code="SCOPE_MISSING")
            return identity
        except Failed as failed:
            code = _BY_CODE.get(failed.code, frames.INVALID_TOKEN)
            log.info("live_token_refused", stream="security", code=failed.code)
            self.outlet.close(code, failed.code.lower())
            return None

    async def _hold(self, name: str) -> Channel:
        """The channel, if this client may watch it. Raises frames.Refused."""
        if not _CHANNEL.fullmatch(name):
            raise frames.Refused("bad_channel", "A channel's name is [a-z0-9_:-]{1,128}.")
        if name.startswith("user:"):
            if self.identity is None:
                raise frames.Refused("unauthorized", "A player's channel needs a token.")
            if name != f"user:{self.identity.user_id}":
                user_id = self.identity.user_id
                log.warning("foreign_channel_refused", stream="security", user_id=user_id)
                raise frames.Refused("forbidden", "This is another player's channel.")
        elif not name.startswith(_KINDS):
            raise frames.Refused("unknown_channel", "There is no such channel.")
        try:
            return await self._hub.hold(name)
        except UnknownChannel as failed:
            raise frames.Refused("unknown_channel", failed.detail) from None
        except FeedUnavailable as failed:
            raise frames.Refused("unavailable", failed.detail, retryable=True) from None

    def _expires_in_ms(self, identity: Caller) -> int:
        return identity.expires_at_ms - clock.now_ms()


def _canonical(name: str) -> str:
    return "leaderboard:all_time" if name == "leaderboard" else name
