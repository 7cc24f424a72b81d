from protos import failure_pb2 as _failure_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ActionType(_message.Message):
    __slots__ = ("action_type", "title", "points", "min_duration_ms", "max_duration_ms", "token_ttl_s", "daily_cap", "max_open", "authoritative", "formula", "points_min", "points_max")
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MIN_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TTL_S_FIELD_NUMBER: _ClassVar[int]
    DAILY_CAP_FIELD_NUMBER: _ClassVar[int]
    MAX_OPEN_FIELD_NUMBER: _ClassVar[int]
    AUTHORITATIVE_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    POINTS_MIN_FIELD_NUMBER: _ClassVar[int]
    POINTS_MAX_FIELD_NUMBER: _ClassVar[int]
    action_type: str
    title: str
    points: int
    min_duration_ms: int
    max_duration_ms: int
    token_ttl_s: int
    daily_cap: int
    max_open: int
    authoritative: bool
    formula: str
    points_min: int
    points_max: int
    def __init__(self, action_type: _Optional[str] = ..., title: _Optional[str] = ..., points: _Optional[int] = ..., min_duration_ms: _Optional[int] = ..., max_duration_ms: _Optional[int] = ..., token_ttl_s: _Optional[int] = ..., daily_cap: _Optional[int] = ..., max_open: _Optional[int] = ..., authoritative: _Optional[bool] = ..., formula: _Optional[str] = ..., points_min: _Optional[int] = ..., points_max: _Optional[int] = ...) -> None: ...

class UpdateTypeRequest(_message.Message):
    __slots__ = ("type", "fields")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    type: ActionType
    fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type: _Optional[_Union[ActionType, _Mapping]] = ..., fields: _Optional[_Iterable[str]] = ...) -> None: ...

class CatalogueRequest(_message.Message):
    __slots__ = ("needed",)
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    needed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, needed: _Optional[_Iterable[str]] = ...) -> None: ...

class CatalogueReply(_message.Message):
    __slots__ = ("types",)
    TYPES_FIELD_NUMBER: _ClassVar[int]
    types: _containers.RepeatedCompositeFieldContainer[ActionType]
    def __init__(self, types: _Optional[_Iterable[_Union[ActionType, _Mapping]]] = ...) -> None: ...

class IssueItem(_message.Message):
    __slots__ = ("user_id", "action_type")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    action_type: str
    def __init__(self, user_id: _Optional[str] = ..., action_type: _Optional[str] = ...) -> None: ...

class IssueRequest(_message.Message):
    __slots__ = ("items", "patient")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[IssueItem]
    patient: bool
    def __init__(self, items: _Optional[_Iterable[_Union[IssueItem, _Mapping]]] = ..., patient: _Optional[bool] = ...) -> None: ...

class Issued(_message.Message):
    __slots__ = ("action_id", "action_type", "action_token", "signing_key", "nonce", "issued_at_ms", "expires_at_ms", "score_increment", "min_duration_ms", "max_duration_ms")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    ACTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    SCORE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    MIN_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    action_type: str
    action_token: str
    signing_key: str
    nonce: str
    issued_at_ms: int
    expires_at_ms: int
    score_increment: int
    min_duration_ms: int
    max_duration_ms: int
    def __init__(self, action_id: _Optional[str] = ..., action_type: _Optional[str] = ..., action_token: _Optional[str] = ..., signing_key: _Optional[str] = ..., nonce: _Optional[str] = ..., issued_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., score_increment: _Optional[int] = ..., min_duration_ms: _Optional[int] = ..., max_duration_ms: _Optional[int] = ...) -> None: ...

class IssueResult(_message.Message):
    __slots__ = ("issued", "failure")
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    issued: Issued
    failure: _failure_pb2.Failure
    def __init__(self, issued: _Optional[_Union[Issued, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class IssueReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[IssueResult]
    def __init__(self, results: _Optional[_Iterable[_Union[IssueResult, _Mapping]]] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("completion_time_ms", "checksum", "evidence")
    COMPLETION_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    completion_time_ms: int
    checksum: str
    evidence: bytes
    def __init__(self, completion_time_ms: _Optional[int] = ..., checksum: _Optional[str] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class Claims(_message.Message):
    __slots__ = ("user_id", "action_id", "action_type", "score_increment", "timestamp", "client_signature", "proof")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    SCORE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    action_id: str
    action_type: str
    score_increment: int
    timestamp: str
    client_signature: str
    proof: Proof
    def __init__(self, user_id: _Optional[str] = ..., action_id: _Optional[str] = ..., action_type: _Optional[str] = ..., score_increment: _Optional[int] = ..., timestamp: _Optional[str] = ..., client_signature: _Optional[str] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ...) -> None: ...

class CompleteItem(_message.Message):
    __slots__ = ("user_id", "claims")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    claims: Claims
    def __init__(self, user_id: _Optional[str] = ..., claims: _Optional[_Union[Claims, _Mapping]] = ...) -> None: ...

class CompleteRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CompleteItem]
    def __init__(self, items: _Optional[_Iterable[_Union[CompleteItem, _Mapping]]] = ...) -> None: ...

class Completed(_message.Message):
    __slots__ = ("action_id", "action_token", "expires_at_ms", "expires_in_s", "score_increment", "repeat")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    SCORE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    REPEAT_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    action_token: str
    expires_at_ms: int
    expires_in_s: int
    score_increment: int
    repeat: bool
    def __init__(self, action_id: _Optional[str] = ..., action_token: _Optional[str] = ..., expires_at_ms: _Optional[int] = ..., expires_in_s: _Optional[int] = ..., score_increment: _Optional[int] = ..., repeat: _Optional[bool] = ...) -> None: ...

class CompleteResult(_message.Message):
    __slots__ = ("completed", "failure")
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    completed: Completed
    failure: _failure_pb2.Failure
    def __init__(self, completed: _Optional[_Union[Completed, _Mapping]] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ...) -> None: ...

class CompleteReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CompleteResult]
    def __init__(self, results: _Optional[_Iterable[_Union[CompleteResult, _Mapping]]] = ...) -> None: ...

class Sealed(_message.Message):
    __slots__ = ("action_id", "user_id", "action_type")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    user_id: str
    action_type: str
    def __init__(self, action_id: _Optional[str] = ..., user_id: _Optional[str] = ..., action_type: _Optional[str] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("client_id", "action_types", "action_id", "user_id", "action_type", "score_increment")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPES_FIELD_NUMBER: _ClassVar[int]
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    SCORE_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    action_types: _containers.RepeatedScalarFieldContainer[str]
    action_id: str
    user_id: str
    action_type: str
    score_increment: int
    def __init__(self, client_id: _Optional[str] = ..., action_types: _Optional[_Iterable[str]] = ..., action_id: _Optional[str] = ..., user_id: _Optional[str] = ..., action_type: _Optional[str] = ..., score_increment: _Optional[int] = ...) -> None: ...

class VerifyItem(_message.Message):
    __slots__ = ("attempt_id", "user_id", "action_token", "claims", "grant")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    user_id: str
    action_token: str
    claims: Claims
    grant: Grant
    def __init__(self, attempt_id: _Optional[str] = ..., user_id: _Optional[str] = ..., action_token: _Optional[str] = ..., claims: _Optional[_Union[Claims, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[VerifyItem]
    def __init__(self, items: _Optional[_Iterable[_Union[VerifyItem, _Mapping]]] = ...) -> None: ...

class VerifyResult(_message.Message):
    __slots__ = ("sealed", "points", "elapsed_ms", "failure", "closes", "mismatch", "claimed_ms", "min_duration_ms", "max_duration_ms")
    SEALED_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CLOSES_FIELD_NUMBER: _ClassVar[int]
    MISMATCH_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_MS_FIELD_NUMBER: _ClassVar[int]
    MIN_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    sealed: Sealed
    points: int
    elapsed_ms: int
    failure: _failure_pb2.Failure
    closes: bool
    mismatch: bool
    claimed_ms: int
    min_duration_ms: int
    max_duration_ms: int
    def __init__(self, sealed: _Optional[_Union[Sealed, _Mapping]] = ..., points: _Optional[int] = ..., elapsed_ms: _Optional[int] = ..., failure: _Optional[_Union[_failure_pb2.Failure, _Mapping]] = ..., closes: _Optional[bool] = ..., mismatch: _Optional[bool] = ..., claimed_ms: _Optional[int] = ..., min_duration_ms: _Optional[int] = ..., max_duration_ms: _Optional[int] = ...) -> None: ...

class VerifyReply(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[VerifyResult]
    def __init__(self, results: _Optional[_Iterable[_Union[VerifyResult, _Mapping]]] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("awarded", "refused", "given_up")
    AWARDED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    GIVEN_UP_FIELD_NUMBER: _ClassVar[int]
    awarded: _containers.RepeatedScalarFieldContainer[str]
    refused: _containers.RepeatedScalarFieldContainer[str]
    given_up: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, awarded: _Optional[_Iterable[str]] = ..., refused: _Optional[_Iterable[str]] = ..., given_up: _Optional[_Iterable[str]] = ...) -> None: ...

class SettleReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetActionRequest(_message.Message):
    __slots__ = ("user_id", "action_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    action_id: str
    def __init__(self, user_id: _Optional[str] = ..., action_id: _Optional[str] = ...) -> None: ...

class Action(_message.Message):
    __slots__ = ("action_id", "action_type", "state", "issued_at_ms", "expires_at_ms")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    action_type: str
    state: str
    issued_at_ms: int
    expires_at_ms: int
    def __init__(self, action_id: _Optional[str] = ..., action_type: _Optional[str] = ..., state: _Optional[str] = ..., issued_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...
