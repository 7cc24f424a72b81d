from protos import actions_pb2 as _actions_pb2
from protos import events_pb2 as _events_pb2
from protos import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AwardItem(_message.Message):
    __slots__ = ("attempt", "username", "name_version", "key_hash", "body_hash")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    NAME_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_HASH_FIELD_NUMBER: _ClassVar[int]
    BODY_HASH_FIELD_NUMBER: _ClassVar[int]
    attempt: _actions_pb2.VerifyItem
    username: str
    name_version: int
    key_hash: bytes
    body_hash: bytes
    def __init__(self, attempt: _Optional[_Union[_actions_pb2.VerifyItem, _Mapping]] = ..., username: _Optional[str] = ..., name_version: _Optional[int] = ..., key_hash: _Optional[bytes] = ..., body_hash: _Optional[bytes] = ...) -> None: ...

class AwardRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[AwardItem]
    def __init__(self, items: _Optional[_Iterable[_Union[AwardItem, _Mapping]]] = ...) -> None: ...

class Award(_message.Message):
    __slots__ = ("action_id", "user_id", "old_score", "new_score", "score_increment", "old_rank", "rank", "version", "at_ms", "warnings", "held", "repeat")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    OLD_SCORE_FIELD_NUMBER: _ClassVar[int]
    NEW_SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    OLD_RANK_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    user_id: str
    old_score: int
    new_score: int
    score_increment: int
    old_rank: int
    rank: int
    version: int
    at_ms: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    held: bool
    repeat: bool
    def __init__(self, action_id: _Optional[str] = ..., user_id: _Optional[str] = ..., old_score: _Optional[int] = ..., new_score: _Optional[int] = ..., score_increment: _Optional[int] = ..., old_rank: _Optional[int] = ..., rank: _Optional[int] = ..., version: _Optional[int] = ..., at_ms: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., held: _Optional[bool] = ..., repeat: _Optional[bool] = ...) -> None: ...

class AwardResult(_message.Message):
    __slots__ = ("award", "failure")
    AWARD_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    award: Award
    failure: _failure_pb2.Failure
    def __init__(self, award: _Optional[_Union[Award, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class AwardReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AwardResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AwardResult, _Mapping]]] = ...) -> None: ...

class GiveUpRequest(_message.Message):
    __slots__ = ("user_id", "action_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    action_id: str
    def __init__(self, user_id: _Optional[str] = ..., action_id: _Optional[str] = ...) -> None: ...

class GiveUpReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReceiptRequest(_message.Message):
    __slots__ = ("user_id", "action_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    action_id: str
    def __init__(self, user_id: _Optional[str] = ..., action_id: _Optional[str] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("user_id", "cursor", "limit")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    cursor: str
    limit: int
    def __init__(self, user_id: _Optional[str] = ..., cursor: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class LedgerRow(_message.Message):
    __slots__ = ("action_id", "kind", "origin_id", "action_type", "points", "old_score", "new_score", "version", "at_ms")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    OLD_SCORE_FIELD_NUMBER: _ClassVar[int]
    NEW_SCORE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    kind: str
    origin_id: str
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int
    at_ms: int
    def __init__(self, action_id: _Optional[str] = ..., kind: _Optional[str] = ..., origin_id: _Optional[str] = ..., action_type: _Optional[str] = ..., points: _Optional[int] = ..., old_score: _Optional[int] = ..., new_score: _Optional[int] = ..., version: _Optional[int] = ..., at_ms: _Optional[int] = ...) -> None: ...

class HistoryReply(_message.Message):
    __slots__ = ("rows", "next_cursor")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[LedgerRow]
    next_cursor: str
    def __init__(self, rows: _Optional[_Iterable[_Union[LedgerRow, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class ReverseRequest(_message.Message):
    __slots__ = ("kind", "user_id", "from_ms", "to_ms", "action_ids", "reason", "actor", "dry_run")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VOID: _ClassVar[ReverseRequest.Kind]
        RESTORE: _ClassVar[ReverseRequest.Kind]
    VOID: ReverseRequest.Kind
    RESTORE: ReverseRequest.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    TO_MS_FIELD_NUMBER: _ClassVar[int]
    ACTION_IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    kind: ReverseRequest.Kind
    user_id: str
    from_ms: int
    to_ms: int
    action_ids: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    actor: str
    dry_run: bool
    def __init__(self, kind: _Optional[_Union[ReverseRequest.Kind, str]] = ..., user_id: _Optional[str] = ..., from_ms: _Optional[int] = ..., to_ms: _Optional[int] = ..., action_ids: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ReverseReply(_message.Message):
    __slots__ = ("rows", "more", "old_score", "new_score", "dry_run")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    OLD_SCORE_FIELD_NUMBER: _ClassVar[int]
    NEW_SCORE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[LedgerRow]
    more: bool
    old_score: int
    new_score: int
    dry_run: bool
    def __init__(self, rows: _Optional[_Iterable[_Union[LedgerRow, _Mapping]]] = ..., more: _Optional[bool] = ..., old_score: _Optional[int] = ..., new_score: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ChangesRequest(_message.Message):
    __slots__ = ("since_ms", "cursor", "limit")
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    since_ms: int
    cursor: str
    limit: int
    def __init__(self, since_ms: _Optional[int] = ..., cursor: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ChangesReply(_message.Message):
    __slots__ = ("events", "next_cursor", "upto_ms")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    UPTO_MS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_events_pb2.ScoreEvent]
    next_cursor: str
    upto_ms: int
    def __init__(self, events: _Optional[_Iterable[_Union[_events_pb2.ScoreEvent, _Mapping]]] = ..., next_cursor: _Optional[str] = ..., upto_ms: _Optional[int] = ...) -> None: ...

class CheckBoardReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Board(_message.Message):
    __slots__ = ("board", "title", "operator", "order", "ties", "reset", "window", "public", "resets_at_ms", "reset_at", "zone", "action_types")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    TIES_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    RESETS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RESET_AT_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPES_FIELD_NUMBER: _ClassVar[int]
    board: str
    title: str
    operator: str
    order: str
    ties: str
    reset: str
    window: int
    public: bool
    resets_at_ms: int
    reset_at: str
    zone: str
    action_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, board: _Optional[str] = ..., title: _Optional[str] = ..., operator: _Optional[str] = ..., order: _Optional[str] = ..., ties: _Optional[str] = ..., reset: _Optional[str] = ..., window: _Optional[int] = ..., public: _Optional[bool] = ..., resets_at_ms: _Optional[int] = ..., reset_at: _Optional[str] = ..., zone: _Optional[str] = ..., action_types: _Optional[_Iterable[str]] = ...) -> None: ...

class BoardsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BoardsReply(_message.Message):
    __slots__ = ("boards",)
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    boards: _containers.RepeatedCompositeFieldContainer[Board]
    def __init__(self, boards: _Optional[_Iterable[_Union[Board, _Mapping]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("rank", "user_id", "username", "score", "reached_at_ms", "removed", "position")
    RANK_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REACHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    rank: int
    user_id: str
    username: str
    score: int
    reached_at_ms: int
    removed: bool
    position: int
    def __init__(self, rank: _Optional[int] = ..., user_id: _Optional[str] = ..., username: _Optional[str] = ..., score: _Optional[int] = ..., reached_at_ms: _Optional[int] = ..., removed: _Optional[bool] = ..., position: _Optional[int] = ...) -> None: ...

class TopItem(_message.Message):
    __slots__ = ("board", "limit", "period", "cursor", "version_min", "fresh", "anonymous")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    board: str
    limit: int
    period: str
    cursor: str
    version_min: int
    fresh: bool
    anonymous: bool
    def __init__(self, board: _Optional[str] = ..., limit: _Optional[int] = ..., period: _Optional[str] = ..., cursor: _Optional[str] = ..., version_min: _Optional[int] = ..., fresh: _Optional[bool] = ..., anonymous: _Optional[bool] = ...) -> None: ...

class Seal(_message.Message):
    __slots__ = ("closed_at_ms", "hash", "signature", "key_id")
    CLOSED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    closed_at_ms: int
    hash: bytes
    signature: bytes
    key_id: int
    def __init__(self, closed_at_ms: _Optional[int] = ..., hash: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[int] = ...) -> None: ...

class TopRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[TopItem]
    def __init__(self, items: _Optional[_Iterable[_Union[TopItem, _Mapping]]] = ...) -> None: ...

class Top(_message.Message):
    __slots__ = ("board", "period", "entries", "total", "updated_at_ms", "degraded", "resets_at_ms", "version", "next_cursor", "seal")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    RESETS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    board: str
    period: str
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    total: int
    updated_at_ms: int
    degraded: bool
    resets_at_ms: int
    version: int
    next_cursor: str
    seal: Seal
    def __init__(self, board: _Optional[str] = ..., period: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., total: _Optional[int] = ..., updated_at_ms: _Optional[int] = ..., degraded: _Optional[bool] = ..., resets_at_ms: _Optional[int] = ..., version: _Optional[int] = ..., next_cursor: _Optional[str] = ..., seal: _Optional[_Union[Seal, _Mapping]] = ...) -> None: ...

class TopResult(_message.Message):
    __slots__ = ("top", "failure")
    TOP_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    top: Top
    failure: _failure_pb2.Failure
    def __init__(self, top: _Optional[_Union[Top, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class TopReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TopResult]
    def __init__(self, results: _Optional[_Iterable[_Union[TopResult, _Mapping]]] = ...) -> None: ...

class AroundItem(_message.Message):
    __slots__ = ("board", "user_id", "radius", "period", "anonymous")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    board: str
    user_id: str
    radius: int
    period: str
    anonymous: bool
    def __init__(self, board: _Optional[str] = ..., user_id: _Optional[str] = ..., radius: _Optional[int] = ..., period: _Optional[str] = ..., anonymous: _Optional[bool] = ...) -> None: ...

class AroundRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[AroundItem]
    def __init__(self, items: _Optional[_Iterable[_Union[AroundItem, _Mapping]]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("board", "period", "user_id", "rank", "score", "total", "behind", "points_to_next", "neighbours", "degraded", "version", "board_version")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    POINTS_TO_NEXT_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BOARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    board: str
    period: str
    user_id: str
    rank: int
    score: int
    total: int
    behind: int
    points_to_next: int
    neighbours: _containers.RepeatedCompositeFieldContainer[Entry]
    degraded: bool
    version: int
    board_version: int
    def __init__(self, board: _Optional[str] = ..., period: _Optional[str] = ..., user_id: _Optional[str] = ..., rank: _Optional[int] = ..., score: _Optional[int] = ..., total: _Optional[int] = ..., behind: _Optional[int] = ..., points_to_next: _Optional[int] = ..., neighbours: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., degraded: _Optional[bool] = ..., version: _Optional[int] = ..., board_version: _Optional[int] = ...) -> None: ...

class AroundResult(_message.Message):
    __slots__ = ("place", "failure")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    place: Place
    failure: _failure_pb2.Failure
    def __init__(self, place: _Optional[_Union[Place, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class AroundReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AroundResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AroundResult, _Mapping]]] = ...) -> None: ...

class RanksRequest(_message.Message):
    __slots__ = ("board", "user_ids", "period", "anonymous")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    USER_IDS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    board: str
    user_ids: _containers.RepeatedScalarFieldContainer[str]
    period: str
    anonymous: bool
    def __init__(self, board: _Optional[str] = ..., user_ids: _Optional[_Iterable[str]] = ..., period: _Optional[str] = ..., anonymous: _Optional[bool] = ...) -> None: ...

class RanksReply(_message.Message):
    __slots__ = ("entries", "degraded", "period", "board_version")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    BOARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    degraded: bool
    period: str
    board_version: int
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., degraded: _Optional[bool] = ..., period: _Optional[str] = ..., board_version: _Optional[int] = ...) -> None: ...

class WouldBeItem(_message.Message):
    __slots__ = ("board", "score", "period", "anonymous")
    BOARD_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_FIELD_NUMBER: _ClassVar[int]
    board: str
    score: int
    period: str
    anonymous: bool
    def __init__(self, board: _Optional[str] = ..., score: _Optional[int] = ..., period: _Optional[str] = ..., anonymous: _Optional[bool] = ...) -> None: ...

class WouldBeRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[WouldBeItem]
    def __init__(self, items: _Optional[_Iterable[_Union[WouldBeItem, _Mapping]]] = ...) -> None: ...

class WouldBe(_message.Message):
    __slots__ = ("rank", "total", "degraded", "period", "board_version")
    RANK_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    BOARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    rank: int
    total: int
    degraded: bool
    period: str
    board_version: int
    def __init__(self, rank: _Optional[int] = ..., total: _Optional[int] = ..., degraded: _Optional[bool] = ..., period: _Optional[str] = ..., board_version: _Optional[int] = ...) -> None: ...

class WouldBeResult(_message.Message):
    __slots__ = ("would_be", "failure")
    WOULD_BE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    would_be: WouldBe
    failure: _failure_pb2.Failure
    def __init__(self, would_be: _Optional[_Union[WouldBe, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class WouldBeReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[WouldBeResult]
    def __init__(self, results: _Optional[_Iterable[_Union[WouldBeResult, _Mapping]]] = ...) -> None: ...
