"""What a request's head may hold: the parameters of its query, and headers that must be single.

Anything else is a mistake of the caller's, which must not look as if it had worked.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from chassis.errors import FieldError, Invalid

REQUIRED: Final = object()  # as a default: there is none

# All other headers are lists, which may come in parts, or are not read. Of two values that
# differ a proxy might read the one and we the other.
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


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a query.

    `read` makes its value of the text and raises ValueError for what is none, which is then
    refused with `code` and `detail`. `default` is the value where the parameter is not there.
    """

    name: str
    read: Callable[[str], Any]
    code: str
    detail: str
    default: Any = REQUIRED


class QueryReader:
    """Reads the queries of one route; None: they are not read."""

    def __init__(self, parameters: Sequence[Parameter] | None) -> None:
        self._open = parameters is None
        self._known = {parameter.name: parameter for parameter in parameters or ()}
        self._defaults = {
            name: known.default
            for name, known in self._known.items()
            if known.default is not REQUIRED
        }
        self._missing = [
            FieldError(name, "REQUIRED", "This parameter is required.")
            for name in self._known
            if name not in self._defaults
        ]

    def read(self, request: web.BaseRequest) -> tuple[Mapping[str, Any], Sequence[FieldError]]:
        """The value of every parameter by its name, and every fault of the query."""
        if self._open or not request.rel_url.raw_query_string:
            return self._defaults, self._missing
        query = request.query
        values, faults = dict(self._defaults), []
        for name in dict.fromkeys(query):
            try:
                values[name] = self._value(name, query.getall(name))
            except _Refused as refused:
                faults.append(FieldError(name, *refused.args))
        return values, faults + [fault for fault in self._missing if fault.field not in query]

    def _value(self, name: str, texts: Sequence[str]) -> Any:
        known = self._known.get(name)
        if known is None:
            raise _Refused("UNKNOWN", "There is no such parameter.")
        if len(texts) > 1:
            raise _Refused("REPEATED", "This parameter must be given once.")
        if not texts[0]:
            raise _Refused("EMPTY", "This parameter must have a value, or be left out.")
        try:
            return known.read(texts[0])
        except ValueError:
            raise _Refused(known.code, known.detail) from None


class _Refused(Exception):
    """Code and detail of a fault."""
