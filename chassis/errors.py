"""The ways to fail, and how a failure crosses gRPC.

    Failed
    ├── Internal           a bug
    ├── Invalid            what was sent cannot be right
    ├── Unprocessable      well formed, but outside the rules
    ├── Unauthenticated    who asks is not known
    ├── Forbidden          who asks may not
    ├── Missing            what is asked for is not there
    ├── Conflict           the state of things forbids it
    ├── TooMany            a limit is reached
    ├── Unavailable        a part that is needed is unavailable
    └── Timeout            the time given ran out

A unit names its own failures by a class below one of these: the class name is the
code callers switch on (`NameTaken` -> `NAME_TAKEN`), the docstring the sentence
people read. Services raise them and know neither gRPC status codes nor HTTP.
TooMany and Unavailable pass with time, and always say when to try again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import grpc
from grpc import StatusCode

from protos import failure_pb2
from protos.failure_pb2 import Fact, Failure

TRAILER = "failure-bin"


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of what was sent."""

    field: str
    code: str
    detail: str


class Failed(Exception):
    """Something failed; see the classes below for how."""

    kind: ClassVar["Failure.Kind"] = Failure.INTERNAL
    status: ClassVar[StatusCode] = StatusCode.INTERNAL
    again_s: ClassVar[int] = 0  # `retry_after_s` where none is stated

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str | None = None,
        errors: Sequence[FieldError] = (),
        retry_after_s: int = 0,
        reference: str = "",
        facts: Mapping[str, int | str] | None = None,
    ) -> None:
        """`detail` replaces the class's sentence, `code` the name made of the class's own;
        `reference` is an id to quote when asking about this failure. `facts` are what decided
        it, for programs, by name in camelCase: {"limitMs": 1000}; nothing in them is secret."""
        self.code = code or _code(type(self).__name__)
        self.detail = detail or " ".join((type(self).__doc__ or "").split())
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s or self.again_s
        self.reference = reference
        self.facts = facts or {}
        super().__init__(self.detail)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Internal(Failed):
    """Something went wrong on our side."""


class Invalid(Failed):
    """What was sent cannot be right."""

    kind, status = Failure.INVALID, StatusCode.INVALID_ARGUMENT


class Unprocessable(Failed):
    """What was sent is well formed, but outside the rules."""

    kind, status = Failure.UNPROCESSABLE, StatusCode.INVALID_ARGUMENT


class Unauthenticated(Failed):
    """Who asks is not known."""

    kind, status = Failure.UNAUTHENTICATED, StatusCode.UNAUTHENTICATED


class Forbidden(Failed):
    """This is not allowed."""

    kind, status = Failure.FORBIDDEN, StatusCode.PERMISSION_DENIED


class Missing(Failed):
    """What is asked for is not there."""

    kind, status = Failure.MISSING, StatusCode.NOT_FOUND


class Conflict(Failed):
    """The state of things forbids it."""

    kind, status = Failure.CONFLICT, StatusCode.FAILED_PRECONDITION


class TooMany(Failed):
    """A limit is reached."""

    kind, status, again_s = Failure.TOO_MANY, StatusCode.RESOURCE_EXHAUSTED, 1


class Unavailable(Failed):
    """A part that is needed is unavailable."""

    kind, status, again_s = Failure.UNAVAILABLE, StatusCode.UNAVAILABLE, 1


class Timeout(Failed):
    """The time given ran out."""

    kind, status = Failure.TIMEOUT, StatusCode.DEADLINE_EXCEEDED


def to_proto(failed: Failed) -> Failure:
    """The failure as it crosses gRPC."""
    return Failure(
        kind=failed.kind,
        code=failed.code,
        detail=failed.detail,
        errors=[
            failure_pb2.FieldError(field=e.field, code=e.code, detail=e.detail)
            for e in failed.errors
        ],
        retry_after_s=failed.retry_after_s,
        reference=failed.reference,
        facts={name: _fact(value) for name, value in failed.facts.items()},
    )


def from_proto(failure: Failure) -> Failed:
    """The failure a peer sent, as an exception of its kind that keeps the peer's code."""
    return _BY_KIND.get(failure.kind, Internal)(
        failure.detail,
        code=failure.code,
        errors=[FieldError(e.field, e.code, e.detail) for e in failure.errors],
        retry_after_s=failure.retry_after_s,
        reference=failure.reference,
        facts={
            name: fact.text if fact.HasField("text") else fact.number
            for name, fact in failure.facts.items()
        },
    )


def from_call(error: grpc.aio.AioRpcError) -> Failed:
    """What a failed call means: the peer's own failure where it sent one."""
    for key, value in error.trailing_metadata() or ():
        if key == TRAILER:
            return from_proto(Failure.FromString(cast(bytes, value)))
    kind = _BY_STATUS.get(error.code(), Internal)
    return kind(f"{error.code().name}: {error.details()}")


def _fact(value: int | str) -> Fact:
    return Fact(text=value) if isinstance(value, str) else Fact(number=value)


def _code(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


_BY_KIND: dict[int, type[Failed]] = {kind.kind: kind for kind in Failed.__subclasses__()}

# Statuses of gRPC itself. A peer's refusal of our identity is our own misconfiguration, so it
# stays Internal.
_BY_STATUS: dict[StatusCode, type[Failed]] = {
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DEADLINE_EXCEEDED: Timeout,
    StatusCode.CANCELLED: Unavailable,
    StatusCode.RESOURCE_EXHAUSTED: Unavailable,
}
