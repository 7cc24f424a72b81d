from protos import fraud_pb2 as _fraud_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreEvents(_message.Message):
    __slots__ = ("events", "boards")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[ScoreEvent]
    boards: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, events: _Optional[_Iterable[_Union[ScoreEvent, _Mapping]]] = ..., boards: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreEvent(_message.Message):
    __slots__ = ("kind", "event_id", "seq", "user_id", "username", "version", "action_type", "points", "old_score", "new_score", "old_rank", "rank", "at_ms", "hidden", "origin_id", "period")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        AWARD: _ClassVar[ScoreEvent.Kind]
        VOID: _ClassVar[ScoreEvent.Kind]
        RESTORE: _ClassVar[ScoreEvent.Kind]
        HIDDEN: _ClassVar[ScoreEvent.Kind]
        SHOWN: _ClassVar[ScoreEvent.Kind]
        RENAMED: _ClassVar[ScoreEvent.Kind]
        PERIOD_CLOSED: _ClassVar[ScoreEvent.Kind]
    AWARD: ScoreEvent.Kind
    VOID: ScoreEvent.Kind
    RESTORE: ScoreEvent.Kind
    HIDDEN: ScoreEvent.Kind
    SHOWN: ScoreEvent.Kind
    RENAMED: ScoreEvent.Kind
    PERIOD_CLOSED: ScoreEvent.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    OLD_SCORE_FIELD_NUMBER: _ClassVar[int]
    NEW_SCORE_FIELD_NUMBER: _ClassVar[int]
    OLD_RANK_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_ID_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    kind: ScoreEvent.Kind
    event_id: str
    seq: int
    user_id: str
    username: str
    version: int
    action_type: str
    points: int
    old_score: int
    new_score: int
    old_rank: int
    rank: int
    at_ms: int
    hidden: bool
    origin_id: str
    period: str
    def __init__(self, kind: _Optional[_Union[ScoreEvent.Kind, str]] = ..., event_id: _Optional[str] = ..., seq: _Optional[int] = ..., user_id: _Optional[str] = ..., username: _Optional[str] = ..., version: _Optional[int] = ..., action_type: _Optional[str] = ..., points: _Optional[int] = ..., old_score: _Optional[int] = ..., new_score: _Optional[int] = ..., old_rank: _Optional[int] = ..., rank: _Optional[int] = ..., at_ms: _Optional[int] = ..., hidden: _Optional[bool] = ..., origin_id: _Optional[str] = ..., period: _Optional[str] = ...) -> None: ...

class SanctionEvents(_message.Message):
    __slots__ = ("sanctions",)
    SANCTIONS_FIELD_NUMBER: _ClassVar[int]
    sanctions: _containers.RepeatedCompositeFieldContainer[_fraud_pb2.Sanction]
    def __init__(self, sanctions: _Optional[_Iterable[_Union[_fraud_pb2.Sanction, _Mapping]]] = ...) -> None: ...
