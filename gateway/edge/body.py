"""Bodies of requests: read within their limits, decoded strictly, refused by name.

What is not well formed JSON, or is built to hurt a parser, is MALFORMED_JSON (400);
what is well formed but does not fit the type is VALIDATION_FAILED (422), naming the
field. Types are decoded by decoders made at start-up.
"""

import asyncio
import json
import re
from typing import Any, Generic, NoReturn, TypeVar

import msgspec
import rfc8785
from aiohttp import web

from chassis.errors import FieldError
from gateway.edge.errors import (
    BodyTimeout,
    BodyTooLarge,
    MalformedJson,
    UnsupportedMediaType,
    ValidationFailed,
)
from gateway.edge.request import Request

BYTES_MAX = 64 * 1024
DEADLINE_S = 10.0
DEPTH_MAX = 8
KEYS_MAX = 64

T = TypeVar("T")

# Every string of the text. It matches from any quote, to the text's end if need be, and never
# goes back: so it takes linear time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?+[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_FIELD = re.compile(
    r"Object (missing required|contains unknown) field `([^`]*)`(?: - at `\$(.*)`)?"
)
_PLACE = re.compile(r"(.*) - at `(?:key in )?\$(.*)`", re.DOTALL)


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The base of what a client sends."""


class Reader(Generic[T]):
    """Reads bodies of one type."""

    def __init__(self, kind: type[T]) -> None:
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
        except msgspec.ValidationError as error:
            # The decoder stops at the first misfit, and the text may be broken behind it.
            _check_exactly(text)
            raise _validation_failed(str(error)) from None
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
        _check_exactly(text)


def canonical(value: Any, *, field: str) -> bytes:
    """The value as RFC 8785 canonical JSON. Raises ValidationFailed for what has none."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValidationFailed(errors=[FieldError(field, "OUT_OF_RANGE", str(error))]) from None


def _too_deep(text: bytes) -> bool:
    brackets = _STRING.sub(b"", text).translate(_TO_SQUARE, _NO_BRACKETS)
    # Each round removes the brackets that hold nothing, and so one level.
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _check_exactly(text: bytes) -> None:
    """Reads the text with a parser that sees every key. Raises MalformedJson."""
    left = KEYS_MAX

    def pairs(found: list[tuple[str, Any]]) -> None:
        nonlocal left
        left -= len(found)
        if left < 0:
            raise MalformedJson(f"The body has more than {KEYS_MAX} keys.")
        if len({key for key, _ in found}) < len(found):
            raise MalformedJson("The body has one key twice.")

    def constant(name: str) -> NoReturn:
        raise MalformedJson(f"{name} is not JSON.")

    try:
        json.loads(
            text.decode(),
            object_pairs_hook=pairs,
            parse_constant=constant,
            # Numbers are not looked at here, and a long one would take long to read.
            parse_int=len,
            parse_float=len,
        )
    except (ValueError, RecursionError):
        raise MalformedJson from None


def _refuse_float(text: str) -> NoReturn:
    raise ValueError(f"Expected `int`, got `{text[:32]}`")


def _validation_failed(message: str) -> ValidationFailed:
    """msgspec's message, turned into an error of one field."""
    if match := _FIELD.fullmatch(message):
        problem, name, place = match.groups()
        field = f"{place}.{name}" if place else name
        code = "REQUIRED" if problem.startswith("missing") else "UNKNOWN"
        detail = "This field is required." if code == "REQUIRED" else "There is no such field."
    else:
        match = _PLACE.fullmatch(message)
        detail, field = match.groups() if match else (message, "")
        code = "INVALID"
        if re.match(r"Expected `[a-z |]+`, got ", detail):
            code = "WRONG_TYPE"
        elif re.search(r" [<>]=? |out of range", detail):
            code = "OUT_OF_RANGE"
    return ValidationFailed(errors=[FieldError(field.lstrip("."), code, detail)])
