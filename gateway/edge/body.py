"""Bodies of requests: read within their limits, decoded strictly, refused by name.

What is not well formed JSON, or is built to hurt a parser, is MALFORMED_JSON (400);
what is well formed but does not fit the type is VALIDATION_FAILED (422), naming every
field. Types are decoded by decoders made at start-up.
"""

import asyncio
import json
import math
import re
from itertools import islice
from typing import Any, Generic, NoReturn, TypeVar

import msgspec
import rfc8785
from aiohttp import web

from gateway.edge.errors import (
    ERRORS_MAX,
    BodyTimeout,
    BodyTooLarge,
    MalformedJson,
    UnsupportedMediaType,
    ValidationFailed,
)
from gateway.edge.misfits import Unfit, misfits, required, unfit
from gateway.edge.request import Request

BYTES_MAX = 64 * 1024
DEADLINE_S = 10.0
DEPTH_MAX = 8
KEYS_MAX = 64
DIGITS_MAX = 4300  # of a number, as the decoder has it

T = TypeVar("T")

# Every string of the text. It matches from any quote, to the text's end if need be, and never
# goes back: so it takes linear time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?+[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The base of what a client sends."""


def require(**given: object) -> None:
    """For the check of a whole body: raises ValidationFailed, naming each field, by its name in
    JSON, that is None."""
    if missing := [required(name) for name, value in given.items() if value is None]:
        raise ValidationFailed(errors=missing)


class Reader(Generic[T]):
    """Reads bodies of one type."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._decoder = msgspec.json.Decoder(kind, float_hook=_refuse_float)

    async def read(self, request: Request) -> T:
        """The body, decoded; as it came, `request` keeps it. Raises MalformedJson,
        ValidationFailed, BodyTooLarge, BodyTimeout, UnsupportedMediaType."""
        if not declares(request, "application/json"):
            raise UnsupportedMediaType
        request.body = await raw(request.http)
        return self.decode(request.body)

    def decode(self, text: bytes) -> T:
        """Raises MalformedJson, ValidationFailed."""
        check_shape(text)
        try:
            return self._decoder.decode(text)
        except (msgspec.ValidationError, ValidationFailed):
            # The decoder stopped at the first misfit, and the text may be broken behind it.
            found = misfits(self._kind, _read_exactly(text))
            raise ValidationFailed(errors=list(islice(found, ERRORS_MAX))) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise MalformedJson from None


def declares(request: Request, content_type: str) -> bool:
    """Whether the body is said to be of that type, and not compressed."""
    headers = request.headers
    if "Content-Encoding" in headers:
        return False
    # Taking the header apart is only worth it where it says more than the type.
    said = headers.get("Content-Type")
    return content_type == said or content_type == request.http.content_type  # noqa: PLR1714


async def raw(request: web.BaseRequest) -> bytes:
    """The body's bytes. Raises BodyTooLarge, BodyTimeout."""
    if (request.content_length or 0) > BYTES_MAX:
        raise BodyTooLarge
    content = request.content
    if content.is_eof():  # It came together with its head, as most do.
        body = content.read_nowait()
        if len(body) > BYTES_MAX:
            raise BodyTooLarge
        return body
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts = bytearray()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while part := await content.readany():
                parts += part
                if len(parts) > BYTES_MAX:
                    raise BodyTooLarge
    except TimeoutError:
        raise BodyTimeout from None
    return bytes(parts)


def check_shape(text: bytes) -> None:
    """Refuses what is nested too deep, has too many keys, or one twice. Raises MalformedJson."""
    if text.count(b"{") + text.count(b"[") > DEPTH_MAX and _too_deep(text):
        raise MalformedJson(f"The body is nested deeper than {DEPTH_MAX}.")
    # Unless there are escapes every second part is a string, and a key where a colon follows.
    parts = text.split(b'"')
    keys = [
        key
        for key, behind in zip(parts[1::2], parts[2::2], strict=False)
        if behind.lstrip()[:1] == b":"
    ]
    if len(keys) > KEYS_MAX:
        raise MalformedJson(f"The body has more than {KEYS_MAX} keys.")
    # Keys that all differ cannot collide, unless an escape hides what one spells.
    if len(set(keys)) < len(keys) or b"\\" in text:
        _read_exactly(text)


def canonical(value: Any, *, field: str) -> bytes:
    """The value as RFC 8785 canonical JSON. Raises ValidationFailed for what has none."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        found = unfit(value, field)
        raise ValidationFailed(errors=list(islice(found, ERRORS_MAX))) from None


def _too_deep(text: bytes) -> bool:
    brackets = _STRING.sub(b"", text).translate(_TO_SQUARE, _NO_BRACKETS)
    # Each round removes the brackets that hold nothing, and so one level.
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _read_exactly(text: bytes) -> Any:
    """The value, by a parser that sees every key; numbers that no field takes are Unfit.

    Raises MalformedJson."""
    left = KEYS_MAX

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal left
        left -= len(found)
        if left < 0:
            raise MalformedJson(f"The body has more than {KEYS_MAX} keys.")
        if len({key for key, _ in found}) < len(found):
            raise MalformedJson("The body has one key twice.")
        return dict(found)

    def constant(name: str) -> NoReturn:
        raise MalformedJson(f"{name} is not JSON.")

    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=pairs,
            parse_constant=constant,
            parse_int=_whole,
            parse_float=_fraction,
        )
        # Halves of surrogate pairs are no text.
        json.dumps(value, ensure_ascii=False, default=repr).encode()
    except (ValueError, RecursionError):
        raise MalformedJson from None
    return value


def _whole(text: str) -> int | Unfit:
    # A long number would take long to read.
    return (
        int(text) if len(text) <= DIGITS_MAX else Unfit("OUT_OF_RANGE", "The number is too long.")
    )


def _fraction(text: str) -> Unfit:
    if math.isinf(float(text)):
        return Unfit("OUT_OF_RANGE", "The number is too large.")
    return Unfit("WRONG_TYPE", f"Numbers must be whole, as plain digits; got `{text[:32]}`.")


def _refuse_float(text: str) -> NoReturn:
    raise ValueError
