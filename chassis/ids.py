"""Ids: UUIDv7 (RFC 9562), so that ids sort by the time they were made; and random bytes."""

import io
import re
import secrets

from chassis import clock

_DIGITS = 19
_DRAWN_AT_ONCE = 256
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))

# Random digits for ids to come: a system call for each id was a fortieth of a loaded gateway.
_drawn: list[str] = []
_bytes = io.BytesIO()


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """Whether it is a UUID of any version, in lower case."""
    return _UUID.fullmatch(text) is not None


def is_uuid7(text: str) -> bool:
    """Whether it is a UUIDv7 in lower case."""
    return is_uuid(text) and text[14] == "7" and text[19] in "89ab"


def uuid7() -> str:
    """A new id, lower case: 48 bits of Unix milliseconds, then 74 random bits."""
    try:
        drawn = _drawn.pop()
    except IndexError:
        drawn = _draw()
    at = f"{clock.now_ms():012x}"
    return f"{at[:8]}-{at[8:]}-7{drawn[:3]}-{_VARIANTS[drawn[3]]}{drawn[4:7]}-{drawn[7:19]}"


def random_bytes(number: int) -> bytes:
    """That many (at most 4096) that no one can guess."""
    global _bytes
    drawn = _bytes.read(number)
    if len(drawn) < number:
        _bytes = io.BytesIO(secrets.token_bytes(4096))
        drawn = _bytes.read(number)
    return drawn


def _draw() -> str:
    digits = secrets.token_hex(_DIGITS * _DRAWN_AT_ONCE // 2)
    _drawn.extend(digits[at : at + _DIGITS] for at in range(_DIGITS, len(digits), _DIGITS))
    return digits[:_DIGITS]
