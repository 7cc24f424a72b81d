"""What every answer of the API is made of: JSON in camelCase, made from a message by names."""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from chassis.times import rfc3339


class Answer(msgspec.Struct, rename="camel"):
    """The base of what the gateway answers."""


A = TypeVar("A", bound=msgspec.Struct)


def answer(kind: type[A], message: Message, **more: Any) -> A:
    """The answer with `more`, and else with the message's fields of the same names.

    A field that is optional in the contract and not set is null.
    """
    plain, values_of, nullable = _fields(kind, message.DESCRIPTOR)
    values = dict(zip(plain, values_of(message), strict=True))
    for name in nullable:
        values[name] = getattr(message, name) if message.HasField(name) else None
    return kind(**{**values, **more})


def optional(at_ms: int | None) -> str | None:
    """A time that may be missing, as RFC 3339."""
    return None if at_ms is None else rfc3339(at_ms)


@cache
def _fields(
    kind: type[A], message: Descriptor
) -> tuple[tuple[str, ...], Callable[[Message], tuple[Any, ...]], tuple[str, ...]]:
    """The names that both have: of plain fields, with their getter, and of those that may be
    unset."""
    fields = message.fields_by_name
    known = [fields[name] for name in kind.__struct_fields__ if name in fields]
    plain = tuple(field.name for field in known if not field.has_presence)
    nullable = tuple(field.name for field in known if field.has_presence)
    return plain, attrgetter(*plain), nullable
