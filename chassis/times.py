"""Times as RFC 3339 has them."""

import math
import re
from datetime import datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  Naive, so that no offset is written.
# Written out, since a page of rows has dozens of times and formatting costs most of each.
_MS = [f".{ms:03}Z" for ms in range(1000)]
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def rfc3339(at_ms: int) -> str:
    """Unix milliseconds as UTC with milliseconds."""
    return _second(at_ms // 1000) + _MS[at_ms % 1000]


def parse_rfc3339(text: str) -> int:
    """Unix milliseconds of a time with any number of fraction digits. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError("not a time as RFC 3339 has it")
    at = datetime.fromisoformat(text.upper())
    try:
        return math.floor(at.timestamp() * 1000 + 1e-4)  # times are exact to the microsecond
    except OverflowError as error:
        raise ValueError(str(error)) from None


@lru_cache(maxsize=1024)
def _second(at_s: int) -> str:
    # Cached, since most times are of the last few seconds.
    return (_EPOCH + timedelta(seconds=at_s)).isoformat()
