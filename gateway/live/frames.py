"""The live channel's frames, in and out: the protocol of one WebSocket can be read here.

Every frame is a UTF-8 text frame holding one JSON object, its kind under `type`. Times
are Unix milliseconds, but `serverTime` and what events carry, which are RFC 3339.
"""

import struct
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

PROTOCOL = "scoreboard.v1.json"

# Close codes. Below 4500 a client reconnects, at 4500 and above it stops.
NORMAL = 1000
UNSUPPORTED_DATA = 1003
SHUTDOWN = 4001
INTERNAL = 4004
TOKEN_EXPIRED = 4005
SLOW_CONSUMER = 4008
NO_CONNECT = 4011
NO_PONG = 4012
RATE_LIMITED = 4013
INVALID_TOKEN = 4500
BAD_REQUEST = 4501
REVOKED = 4503
TOO_MANY_SOCKETS = 4504
TOO_MANY_SUBSCRIPTIONS = 4505
FORBIDDEN = 4507
CLOSE_CODES = (
    *(NORMAL, UNSUPPORTED_DATA, SHUTDOWN, INTERNAL, TOKEN_EXPIRED, SLOW_CONSUMER, NO_CONNECT),
    *(NO_PONG, RATE_LIMITED, INVALID_TOKEN, BAD_REQUEST, REVOKED, TOO_MANY_SOCKETS),
    *(TOO_MANY_SUBSCRIPTIONS, FORBIDDEN),
)

Id = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Moment = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Refused(Exception):
    """What the client sent is answered with an error frame; the socket stays.

    `code` is the error's, `request_id` the frame's id where it had to be read by hand.
    """

    def __init__(
        self, code: str, message: str, *, retryable: bool = False, request_id: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.request_id = request_id


class BadFrame(Refused):
    """What the client sent is no frame of this protocol."""


# ---- client to server ----


class _In(Struct, forbid_unknown_fields=True, rename="camel"):
    pass


class Since(_In):
    """Where the client stands on a channel; what came later is replayed if it is held."""

    epoch: Annotated[str, Meta(min_length=1, max_length=64)]
    offset: Annotated[int, Meta(ge=0, le=2**53)]


class Wish(_In):
    """A channel to subscribe to."""

    channel: str
    since: Since | None = None


class Client(_In):
    """The program at the other end."""

    name: Annotated[str, Meta(max_length=64)]
    version: Annotated[str, Meta(max_length=64)] = ""


class Connect(_In, tag="connect"):
    """The first frame: the token, and the whole (re)subscription."""

    id: Id
    token: str | None = None
    client: Client | None = None
    subs: list[Wish] = []


class Subscribe(_In, tag="subscribe"):
    """With `since` it may also repeat a subscription, to repair a gap."""

    id: Id
    channel: str
    since: Since | None = None


class Unsubscribe(_In, tag="unsubscribe"):
    id: Id
    channel: str


class Refresh(_In, tag="refresh"):
    """A newer token of the same subject."""

    id: Id
    token: str


class Ping(_In, tag="ping"):
    """Either side's; the other answers `pong` with the same `t`."""

    t: Moment


class Pong(_In, tag="pong"):
    t: Moment


ClientFrame = Connect | Subscribe | Unsubscribe | Refresh | Ping | Pong


# ---- server to client ----


class _Out(Struct, omit_defaults=True, rename="camel"):
    pass


class Session(_Out):
    user_id: str
    expires_in_ms: int


class Heartbeat(_Out):
    interval_ms: int
    timeout_ms: int


class Retry(_Out):
    """Reconnect pauses: base·2ⁿ up to max; a gap is repaired after a random 0…spread."""

    base_ms: int
    max_ms: int
    spread_ms: int


class Limits(_Out):
    frame_bytes: int
    frames_per_second: int
    frames_burst: int
    subscriptions: int


class Subscribed(_Out, tag="subscribed"):
    """`channel` is the canonical name, as in every later frame: `leaderboard` is answered as
    `leaderboard:all_time`. Without history there is no epoch and no offset."""

    id: int
    channel: str
    recovered: bool
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    snapshot: Raw | UnsetType = UNSET
    replay: list[Raw] | UnsetType = UNSET


class Welcome(_Out, tag="welcome"):
    """`session` is null without a token. Channels of `connect` that could not be subscribed
    follow right after it, each in an `unsubscribed` frame."""

    id: int
    conn_id: str
    server_time: str
    session: Session | None
    heartbeat: Heartbeat
    retry: Retry
    limits: Limits
    subs: list[Subscribed]


class Snapshot(_Out, tag="snapshot"):
    """`reason`: conflated, epochChanged, tooManyChanges, gap or stale. A personal channel's has
    no epoch and no offset."""

    channel: str
    reason: str
    data: Raw
    epoch: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    stale: bool = False


class Unsubscribed(_Out, tag="unsubscribed"):
    channel: str
    code: str


class TokenExpiring(_Out, tag="tokenExpiring"):
    expires_in_ms: int


class Shutdown(_Out, tag="shutdown"):
    """The server leaves; reconnect after a random pause within `reconnectMs`."""

    reason: str
    reconnect_ms: tuple[int, int]


class Ok(_Out, tag="ok"):
    id: int


class Error(_Out, tag="error"):
    """`id` is missing where the faulty frame's own could not be read."""

    code: str
    message: str
    retryable: bool
    id: int | None = None
    retry_after_ms: int | None = None


class _Header(Struct):
    type: str
    id: Any = None


_header = msgspec.json.Decoder(_Header)
_by_type: dict[str, msgspec.json.Decoder[Any]] = {
    str(kind.__struct_config__.tag): msgspec.json.Decoder(kind)
    for kind in (Connect, Subscribe, Unsubscribe, Refresh, Ping, Pong)
}
_encoder = msgspec.json.Encoder()


def decode(text: str) -> ClientFrame:
    """The client frame in `text`. Raises BadFrame."""
    # Deep nesting cannot pass: every field's type is known and shallow, and what the
    # header skips over ends in RecursionError at worst.
    try:
        header = _header.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise BadFrame("bad_frame", "This is not a JSON object with a type.") from None
    known_id = header.id if type(header.id) is int else None
    decoder = _by_type.get(header.type)
    if decoder is None:
        raise BadFrame("unknown_type", "There is no such type of frame.", request_id=known_id)
    try:
        frame: ClientFrame = decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise BadFrame("bad_frame", str(problem), request_id=known_id) from None
    return frame


def encode(frame: Struct) -> bytes:
    """The WebSocket frame (header and payload) that carries `frame`."""
    return ready(_encoder.encode(frame))


def ready(payload: bytes) -> bytes:
    """The WebSocket text frame around `payload`, as a server writes it: unmasked, whole."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", 0x81, length) + payload
    if length < 65_536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


def closing(code: int, reason: str) -> bytes:
    """The WebSocket close frame; `reason` is short."""
    payload = struct.pack("!H", code) + reason.encode()[:123]
    return struct.pack("!BB", 0x88, len(payload)) + payload
