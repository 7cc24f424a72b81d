"""Answers that are known by an ETag, so that an unchanged one need not be sent again.

A tag is strong: the version of what was read, a hash of the answer's bytes, and a MAC. A
caller that shows one never gets anything older than its version. Only tags of ours count for
that: a version that was made up would send every read past the caches.
"""

import hashlib
import hmac
import re
from functools import lru_cache

from aiohttp import web

from chassis.keyring import Keyring

_HASH_BYTES = _MAC_BYTES = 8
_TAG = re.compile(r'(?:W/)?"((\d{1,18})-[0-9a-f]{16})-([0-9a-f]{16})"')


class Etags:
    """Makes tags and reads them, by the ring's newest key: older tags are no one's any more."""

    def __init__(self, keys: Keyring) -> None:
        self._key = hmac.digest(keys[keys.current], b"etag.v1", hashlib.sha256)
        # Kept, since the same page goes to many and comes back from many.
        self._tag = lru_cache(maxsize=256)(self._made)
        self._mac = lru_cache(maxsize=1024)(self._signed)

    def version(self, request: web.BaseRequest) -> int:
        """The newest version that the caller has this answer of; 0: no tag of ours is shown."""
        shown = request.headers.get("If-None-Match")
        if shown is None:
            return 0
        return max(
            (
                int(version)
                for text, version, mac in _TAG.findall(shown)
                if hmac.compare_digest(mac, self._mac(request.path, text))
            ),
            default=0,
        )

    def response(self, request: web.BaseRequest, body: bytes, *, version: int) -> web.Response:
        """JSON under its tag, or 304 without a body where the caller has it."""
        tag = self._tag(request.path, body, version)
        # To be kept, and asked about each time.
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        shown = request.headers.get("If-None-Match")
        if shown is not None and _matches(shown, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": "application/json"})

    def _made(self, path: str, body: bytes, version: int) -> str:
        text = f"{version}-{hashlib.blake2b(body, digest_size=_HASH_BYTES).hexdigest()}"
        return f'"{text}-{self._mac(path, text)}"'

    def _signed(self, path: str, text: str) -> str:
        message = f"{path}\n{text}".encode()
        return hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES].hex()


def _matches(shown: str, tag: str) -> bool:
    # Compared weakly, as RFC 9110 has it for this header: a proxy that compressed the answer
    # has made the tag a weak one.
    found = (found[0].removeprefix("W/") for found in _TAG.finditer(shown))
    return shown.strip() == "*" or tag in found
