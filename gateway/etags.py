"""Answers that are known by an ETag, so that an unchanged one need not be sent again.

A tag is strong: the version of what was read, and a hash of the answer's bytes. Whoever shows
one is never answered by anything older than that version.
"""

import hashlib
import re

import msgspec
from aiohttp import web

_TAG = re.compile(r'(?:W/)?"(\d{1,18})-([0-9a-f]{16})"')


def version(request: web.Request) -> int:
    """The newest version that the caller has an answer of; 0: none is shown."""
    shown = request.headers.get("If-None-Match")
    return 0 if shown is None else max((int(v) for v, _ in _TAG.findall(shown)), default=0)


def response(request: web.Request, answer: object, *, version: int) -> web.Response:
    """`answer` as JSON under its tag, or 304 without a body where the caller has it already."""
    body = msgspec.json.encode(answer)
    tag = f'"{version}-{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
    shown = request.headers.get("If-None-Match")
    # To be kept, and asked about each time.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if shown is not None and _matches(shown, tag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**headers, "Content-Type": "application/json"})


def _matches(shown: str, tag: str) -> bool:
    # Compared weakly, as RFC 9110 has it for this header: a proxy that compressed the answer
    # has made the tag a weak one.
    return shown.strip() == "*" or tag in (f'"{v}-{h}"' for v, h in _TAG.findall(shown))
