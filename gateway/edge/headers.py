"""Headers of requests: those that must be single are refused where they are repeated.

Of two values that differ a proxy may read the one and we the other.
"""

import re
from collections import Counter

from aiohttp import web

from chassis.errors import FieldError, Invalid

# All others are lists, which may come in parts, or are not read.
_SINGLE = {
    name.lower(): name
    for name in (
        "Authorization",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Expect",
        "Host",
        "Idempotency-Key",
        "Origin",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "traceparent",
        "Upgrade",
        "User-Agent",
        "X-Action-Token",
        "X-Device-Token",
        "X-Request-Id",
    )
}
# aiohttp's parser refuses some of them itself, and names the header in its message only.
_REFUSED = re.compile(r"Duplicate '?([A-Za-z-]+)")


class HeaderRepeated(Invalid):
    """A header that must be single was given more than once."""

    def __init__(self, *names: str) -> None:
        detail = "This header must be given once."
        super().__init__(errors=[FieldError(name, "REPEATED", detail) for name in names])


def check_single(request: web.BaseRequest) -> None:
    """Raises HeaderRepeated, with every such header."""
    names = [name.lower() for name, _ in request.raw_headers]
    if len(set(names)) < len(names):
        counts = Counter(name.decode("latin-1") for name in names)
        repeated = [_SINGLE[name] for name in counts if counts[name] > 1 and name in _SINGLE]
        if repeated:
            raise HeaderRepeated(*repeated)


def refused(error: BaseException | None) -> HeaderRepeated | None:
    """The failure where aiohttp's parser refused a repeated header, else None."""
    match = _REFUSED.search(str(error))
    return HeaderRepeated(_SINGLE.get(match[1].lower(), match[1])) if match else None
