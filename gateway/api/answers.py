"""What every answer of the API is made of: JSON in camelCase."""

import msgspec

from chassis.times import rfc3339


class Answer(msgspec.Struct, rename="camel"):
    """The base of what the gateway answers."""


def optional(at_ms: int | None) -> str | None:
    """A time that may be missing, as RFC 3339."""
    return None if at_ms is None else rfc3339(at_ms)
