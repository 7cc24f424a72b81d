"""What every answer of the API is made of: JSON in camelCase, made from a message by names."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from chassis.clock import rfc3339


class Answer(msgspec.Struct, rename="camel"):
    """The base of what the gateway answers."""


A = TypeVar("A", bound=msgspec.Struct)


def answer(kind: type[A], message: Message, **more: Any) -> A:
    """The answer with `more`, and else with the message's values of the same names.

    `x_ms` of the message is also the time `x` as RFC 3339, `x_s` also `x`; bytes become
    hexadecimal digits. What is optional in the contract and not set is null.
    """
    for name, source, shape, is_optional in _fields(kind, message.DESCRIPTOR):
        if name not in more:
            is_unset = is_optional and not message.HasField(source)
            more[name] = None if is_unset else shape(getattr(message, source))
    return kind(**more)


@cache
def _fields(
    kind: type[A], message: Descriptor
) -> list[tuple[str, str, Callable[[Any], Any], bool]]:
    """Of each name that both have: the message's own, how its value is answered, whether it may
    be unset."""
    return [
        (name, source, _shape(known, is_time=source == f"{name}_ms"), known.has_presence)
        for name in kind.__struct_fields__
        for source in (name, f"{name}_ms", f"{name}_s")
        if (known := message.fields_by_name.get(source))
    ]


def _shape(field: FieldDescriptor, *, is_time: bool) -> Callable[[Any], Any]:
    if is_time:
        return rfc3339
    if field.is_repeated:
        return list
    return bytes.hex if field.type == field.TYPE_BYTES else lambda value: value
