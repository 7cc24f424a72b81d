from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GatewayFrame(_message.Message):
    __slots__ = ("hello", "interest", "pong")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    INTEREST_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    interest: Interest
    pong: Pong
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., interest: _Optional[_Union[Interest, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("gateway_id",)
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    gateway_id: str
    def __init__(self, gateway_id: _Optional[str] = ...) -> None: ...

class Interest(_message.Message):
    __slots__ = ("add", "remove")
    ADD_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    add: _containers.RepeatedCompositeFieldContainer[Position]
    remove: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, add: _Optional[_Iterable[_Union[Position, _Mapping]]] = ..., remove: _Optional[_Iterable[str]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("channel", "epoch", "offset")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    channel: str
    epoch: str
    offset: int
    def __init__(self, channel: _Optional[str] = ..., epoch: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("t",)
    T_FIELD_NUMBER: _ClassVar[int]
    t: int
    def __init__(self, t: _Optional[int] = ...) -> None: ...

class FeedFrame(_message.Message):
    __slots__ = ("state", "publications", "tops", "go_away", "ping")
    STATE_FIELD_NUMBER: _ClassVar[int]
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    TOPS_FIELD_NUMBER: _ClassVar[int]
    GO_AWAY_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    state: ChannelState
    publications: Publications
    tops: Tops
    go_away: GoAway
    ping: Ping
    def __init__(self, state: _Optional[_Union[ChannelState, _Mapping]] = ..., publications: _Optional[_Union[Publications, _Mapping]] = ..., tops: _Optional[_Union[Tops, _Mapping]] = ..., go_away: _Optional[_Union[GoAway, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ...) -> None: ...

class ChannelState(_message.Message):
    __slots__ = ("channel", "epoch", "offset", "snapshot", "stale", "history", "unknown")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    channel: str
    epoch: str
    offset: int
    snapshot: bytes
    stale: bool
    history: _containers.RepeatedCompositeFieldContainer[Publication]
    unknown: bool
    def __init__(self, channel: _Optional[str] = ..., epoch: _Optional[str] = ..., offset: _Optional[int] = ..., snapshot: _Optional[bytes] = ..., stale: _Optional[bool] = ..., history: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ..., unknown: _Optional[bool] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("channel", "epoch", "offset", "frame", "snapshot", "at_ms", "awarded_at_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    AWARDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    epoch: str
    offset: int
    frame: bytes
    snapshot: bytes
    at_ms: int
    awarded_at_ms: int
    def __init__(self, channel: _Optional[str] = ..., epoch: _Optional[str] = ..., offset: _Optional[int] = ..., frame: _Optional[bytes] = ..., snapshot: _Optional[bytes] = ..., at_ms: _Optional[int] = ..., awarded_at_ms: _Optional[int] = ...) -> None: ...

class Publications(_message.Message):
    __slots__ = ("publications",)
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    publications: _containers.RepeatedCompositeFieldContainer[Publication]
    def __init__(self, publications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ...) -> None: ...

class Tops(_message.Message):
    __slots__ = ("positions",)
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class GoAway(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("t",)
    T_FIELD_NUMBER: _ClassVar[int]
    t: int
    def __init__(self, t: _Optional[int] = ...) -> None: ...
