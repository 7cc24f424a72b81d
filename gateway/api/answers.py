"""What every answer of the API is made of: JSON in camelCase, times in RFC 3339."""

from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  Naive, so that no offset is written.
# Written out, since a page of a board has dozens of times and formatting costs most of each.
_MS = [f".{ms:03}Z" for ms in range(1000)]


class Answer(msgspec.Struct, rename="camel"):
    """The base of what the gateway answers."""


def rfc3339(at_ms: int) -> str:
    """Unix milliseconds as RFC 3339 UTC with milliseconds."""
    return _second(at_ms // 1000) + _MS[at_ms % 1000]


def optional(at_ms: int | None) -> str | None:
    """The same, of a time that may be missing."""
    return None if at_ms is None else rfc3339(at_ms)


@lru_cache(maxsize=1024)
def _second(at_s: int) -> str:
    # Kept, since most times answered are of the last few seconds.
    return (_EPOCH + timedelta(seconds=at_s)).isoformat()
