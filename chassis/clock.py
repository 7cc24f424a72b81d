"""The clock of the process: the machine's time plus an offset that tests move; RFC 3339.

SQL adds `offset()` to `clock_timestamp()` and scripts add `offset_ms()` to
`TIME`, as an argument, so that all clocks move together and no test sleeps to
reach an expiry or a boundary. The offset is 0 outside tests.
"""

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_offset_ms = 0
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  Naive, so that no offset is written.
# Written out, since a page of rows has dozens of times and formatting costs most of each.
_MS = [f".{ms:03}Z" for ms in range(1000)]
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000 + _offset_ms


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.fromtimestamp(now_ms() / 1000, UTC)


def offset_ms() -> int:
    """What this clock is ahead of the machine's, in milliseconds."""
    return _offset_ms


def offset() -> timedelta:
    """What this clock is ahead of the machine's, for SQL."""
    return timedelta(milliseconds=_offset_ms)


def set_offset(seconds: float) -> None:
    """Puts the clock `seconds` ahead of the machine's."""
    global _offset_ms
    _offset_ms = round(seconds * 1000)


@contextmanager
def ahead(seconds: float) -> Iterator[None]:
    """Within it the clock is `seconds` further ahead; negative: back."""
    before = _offset_ms
    set_offset(before / 1000 + seconds)
    try:
        yield
    finally:
        set_offset(before / 1000)


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
