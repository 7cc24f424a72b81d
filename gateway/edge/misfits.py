"""Every fault of a body that does not fit its type, each named by its path.

msgspec stops at the first. So a body that it refused is read a second time, value by value; one
that it takes never comes here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Meta, UnsetType
from msgspec.structs import FieldInfo

from chassis.errors import FieldError
from gateway.edge.errors import ValidationFailed

EXACT_MAX = 2**53 - 1  # what JSON numbers hold exactly everywhere


@dataclass(frozen=True)
class Unfit:
    """A number that no field takes, in the place of its value."""

    code: str
    detail: str


def misfits(kind: Any, value: Any, path: str = "") -> Iterator[FieldError]:
    """The faults of `value`, decoded JSON, that was to be of type `kind`; in the type's order."""
    bare, constraints = _taken_apart(kind)
    if isinstance(value, Unfit):
        yield FieldError(path, value.code, value.detail)
    elif isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        yield from _of_object(bare, value, path)
    elif isinstance(value, list) and get_origin(bare) is list:
        yield from _of_value(Annotated[(list, Meta(), *constraints)], value, path)
        items_max = min((meta.max_length or len(value) for meta in constraints), default=len(value))
        for place, item in enumerate(value[:items_max]):
            yield from misfits(get_args(bare)[0], item, f"{path}[{place}]")
    elif bare is Any:
        yield from unfit(value, path)
    else:
        yield from _of_value(kind, value, path)


def unfit(value: Any, path: str) -> Iterator[FieldError]:
    """The faults of `value` where any JSON is taken that has one canonical form (RFC 8785)."""
    if isinstance(value, Unfit):
        yield FieldError(path, value.code, value.detail)
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from unfit(member, f"{path}.{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from unfit(item, f"{path}[{place}]")
    elif isinstance(value, int) and abs(value) > EXACT_MAX:
        detail = f"A whole number from {-EXACT_MAX} to {EXACT_MAX}."
        yield FieldError(path, "OUT_OF_RANGE", detail)


def required(name: str) -> FieldError:
    """The fault of a field that is not there."""
    return FieldError(name, "REQUIRED", "This field is required.")


def _of_object(
    kind: type[msgspec.Struct], value: Mapping[str, Any], path: str
) -> Iterator[FieldError]:
    prefix = f"{path}." if path else ""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, field in fields.items():
        if name in value:
            yield from misfits(field.type, value[name], prefix + name)
        elif field.required:
            yield required(prefix + name)
    yield from _of_whole(kind, fields, value, prefix)
    for name in value:
        if name not in fields:
            yield FieldError(prefix + name, "UNKNOWN", "There is no such field.")


def _of_whole(
    kind: type[msgspec.Struct],
    fields: Mapping[str, FieldInfo],
    value: Mapping[str, Any],
    prefix: str,
) -> Iterator[FieldError]:
    """What the type's own check finds, which looks at several fields."""
    given = {
        field.name: value.get(name)
        for name, field in fields.items()
        if name in value or field.required
    }
    try:
        kind(**given)  # Made in Python a struct does not check the types of its values.
    except ValidationFailed as failed:
        for error in failed.errors:
            yield FieldError(prefix + error.field, error.code, error.detail)


def _of_value(kind: Any, value: Any, path: str) -> Iterator[FieldError]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        detail, code = str(error), "INVALID"
        if re.match(r"Expected `[a-z |]+`, got ", detail):
            code = "WRONG_TYPE"
        elif re.search(r" [<>]=? ", detail):
            code = "OUT_OF_RANGE"
        yield FieldError(path, code, detail)


def _taken_apart(kind: Any) -> tuple[Any, tuple[Meta, ...]]:
    """The type and its constraints, without what stands for no value (None, UNSET)."""
    if get_origin(kind) in (Union, UnionType):
        kind, *_ = (each for each in get_args(kind) if each not in (NoneType, UnsetType))
    if get_origin(kind) is Annotated:
        bare, *constraints = get_args(kind)
        return bare, tuple(constraints)
    return kind, ()
