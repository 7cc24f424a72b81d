from protos import actions_pb2 as _actions_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JudgeItem(_message.Message):
    __slots__ = ("attempt_id", "verified", "granted")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    verified: _actions_pb2.VerifyResult
    granted: bool
    def __init__(self, attempt_id: _Optional[str] = ..., verified: _Optional[_Union[_actions_pb2.VerifyResult, _Mapping]] = ..., granted: _Optional[bool] = ...) -> None: ...

class JudgeRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[JudgeItem]
    def __init__(self, items: _Optional[_Iterable[_Union[JudgeItem, _Mapping]]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("decision", "ruleset", "reasons", "decision_id", "sanction")
    class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ALLOW: _ClassVar[Verdict.Decision]
        FLAG: _ClassVar[Verdict.Decision]
        REJECT: _ClassVar[Verdict.Decision]
        BAN: _ClassVar[Verdict.Decision]
    ALLOW: Verdict.Decision
    FLAG: Verdict.Decision
    REJECT: Verdict.Decision
    BAN: Verdict.Decision
    DECISION_FIELD_NUMBER: _ClassVar[int]
    RULESET_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SANCTION_FIELD_NUMBER: _ClassVar[int]
    decision: Verdict.Decision
    ruleset: str
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    decision_id: str
    sanction: Sanction
    def __init__(self, decision: _Optional[_Union[Verdict.Decision, str]] = ..., ruleset: _Optional[str] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., decision_id: _Optional[str] = ..., sanction: _Optional[_Union[Sanction, _Mapping]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("rule", "version", "severity", "observed", "threshold", "window_ms", "evidence")
    RULE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    rule: str
    version: int
    severity: str
    observed: int
    threshold: int
    window_ms: int
    evidence: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rule: _Optional[str] = ..., version: _Optional[int] = ..., severity: _Optional[str] = ..., observed: _Optional[int] = ..., threshold: _Optional[int] = ..., window_ms: _Optional[int] = ..., evidence: _Optional[_Iterable[str]] = ...) -> None: ...

class Sanction(_message.Message):
    __slots__ = ("user_id", "kind", "version", "until_ms")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NONE: _ClassVar[Sanction.Kind]
        FLAGGED: _ClassVar[Sanction.Kind]
        QUARANTINED: _ClassVar[Sanction.Kind]
        BANNED: _ClassVar[Sanction.Kind]
    NONE: Sanction.Kind
    FLAGGED: Sanction.Kind
    QUARANTINED: Sanction.Kind
    BANNED: Sanction.Kind
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    kind: Sanction.Kind
    version: int
    until_ms: int
    def __init__(self, user_id: _Optional[str] = ..., kind: _Optional[_Union[Sanction.Kind, str]] = ..., version: _Optional[int] = ..., until_ms: _Optional[int] = ...) -> None: ...

class JudgeReply(_message.Message):
    __slots__ = ("verdicts",)
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Verdict
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Verdict, _Mapping]] = ...) -> None: ...
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.MessageMap[int, Verdict]
    def __init__(self, verdicts: _Optional[_Mapping[int, Verdict]] = ...) -> None: ...

class Incident(_message.Message):
    __slots__ = ("incident_id", "user_id", "rule", "action_id", "action_type", "observed", "threshold", "at_ms", "other_user_id")
    INCIDENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    OTHER_USER_ID_FIELD_NUMBER: _ClassVar[int]
    incident_id: str
    user_id: str
    rule: str
    action_id: str
    action_type: str
    observed: int
    threshold: int
    at_ms: int
    other_user_id: str
    def __init__(self, incident_id: _Optional[str] = ..., user_id: _Optional[str] = ..., rule: _Optional[str] = ..., action_id: _Optional[str] = ..., action_type: _Optional[str] = ..., observed: _Optional[int] = ..., threshold: _Optional[int] = ..., at_ms: _Optional[int] = ..., other_user_id: _Optional[str] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("incidents",)
    INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    incidents: _containers.RepeatedCompositeFieldContainer[Incident]
    def __init__(self, incidents: _Optional[_Iterable[_Union[Incident, _Mapping]]] = ...) -> None: ...

class ReportReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SanctionsSinceRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class SanctionsSinceReply(_message.Message):
    __slots__ = ("sanctions",)
    SANCTIONS_FIELD_NUMBER: _ClassVar[int]
    sanctions: _containers.RepeatedCompositeFieldContainer[Sanction]
    def __init__(self, sanctions: _Optional[_Iterable[_Union[Sanction, _Mapping]]] = ...) -> None: ...
