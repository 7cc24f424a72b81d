"""Ids: UUIDv7 (RFC 9562), so that ids sort by the time they were made."""

import secrets
import uuid

from chassis import clock


def uuid7() -> str:
    """A new id, lower case: 48 bits of Unix milliseconds, then 74 random bits."""
    value = clock.now_ms() << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76  # the version
    value = value & ~(0x3 << 62) | 0x2 << 62  # the variant
    return str(uuid.UUID(int=value))
