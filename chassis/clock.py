"""The clock of the process: the machine's time plus an offset that tests move.

SQL adds `offset()` to `clock_timestamp()` and scripts add `offset_ms()` to
`TIME`, as an argument, so that all clocks move together and no test sleeps to
reach an expiry or a boundary. The offset is 0 outside tests.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_offset_ms = 0


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
