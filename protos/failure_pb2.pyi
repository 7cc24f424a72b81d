from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Failure(_message.Message):
    __slots__ = ("kind", "code", "detail", "errors", "retry_after_s", "reference")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        INTERNAL: _ClassVar[Failure.Kind]
        INVALID: _ClassVar[Failure.Kind]
        UNPROCESSABLE: _ClassVar[Failure.Kind]
        UNAUTHENTICATED: _ClassVar[Failure.Kind]
        FORBIDDEN: _ClassVar[Failure.Kind]
        MISSING: _ClassVar[Failure.Kind]
        CONFLICT: _ClassVar[Failure.Kind]
        TOO_MANY: _ClassVar[Failure.Kind]
        UNAVAILABLE: _ClassVar[Failure.Kind]
        TIMEOUT: _ClassVar[Failure.Kind]
    INTERNAL: Failure.Kind
    INVALID: Failure.Kind
    UNPROCESSABLE: Failure.Kind
    UNAUTHENTICATED: Failure.Kind
    FORBIDDEN: Failure.Kind
    MISSING: Failure.Kind
    CONFLICT: Failure.Kind
    TOO_MANY: Failure.Kind
    UNAVAILABLE: Failure.Kind
    TIMEOUT: Failure.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    kind: Failure.Kind
    code: str
    detail: str
    errors: _containers.RepeatedCompositeFieldContainer[FieldError]
    retry_after_s: int
    reference: str
    def __init__(self, kind: _Optional[_Union[Failure.Kind, str]] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[FieldError, _Mapping]]] = ..., retry_after_s: _Optional[int] = ..., reference: _Optional[str] = ...) -> None: ...

class FieldError(_message.Message):
    __slots__ = ("field", "code", "detail")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    field: str
    code: str
    detail: str
    def __init__(self, field: _Optional[str] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
