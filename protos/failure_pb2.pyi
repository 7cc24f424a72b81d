from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Failure(_message.Message):
    __slots__ = ("kind", "code", "detail", "errors", "retry_after_s", "reference", "facts")
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
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Fact
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Fact, _Mapping]] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    kind: Failure.Kind
    code: str
    detail: str
    errors: _containers.RepeatedCompositeFieldContainer[FieldError]
    retry_after_s: int
    reference: str
    facts: _containers.MessageMap[str, Fact]
    def __init__(self, kind: _Optional[_Union[Failure.Kind, str]] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[FieldError, _Mapping]]] = ..., retry_after_s: _Optional[int] = ..., reference: _Optional[str] = ..., facts: _Optional[_Mapping[str, Fact]] = ...) -> None: ...

class Fact(_message.Message):
    __slots__ = ("number", "text")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    number: int
    text: str
    def __init__(self, number: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class FieldError(_message.Message):
    __slots__ = ("field", "code", "detail")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    field: str
    code: str
    detail: str
    def __init__(self, field: _Optional[str] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
