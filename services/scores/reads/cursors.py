"""Cursors of pages: where the next one begins, in a form that only we can make."""

import base64
import hmac
from typing import TypeVar

import msgspec

from chassis.errors import FieldError
from chassis.keyring import Keyring
from services.scores.boards.rules import ValidationFailed

CURSOR_CHARACTERS_MAX = 512
_MAC_BYTES = 16

T = TypeVar("T", bound=tuple[int | str, ...])


class CursorInvalid(ValidationFailed):
    """Some fields do not fit."""

    def __init__(self) -> None:
        errors = [FieldError("cursor", "INVALID", "must be one that this list was given")]
        super().__init__(code="VALIDATION_FAILED", errors=errors)


class Cursors:
    """Seals positions under the newest key of the ring, and opens those of all keys."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def seal(self, kind: str, *parts: int | str) -> str:
        """The cursor of these parts; `kind` names the list it is of."""
        kid, body = self._keys.current, msgspec.msgpack.encode(parts)
        sealed = bytes((kid,)) + self._mac(kid, kind, body) + body
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, kind: str, text: str, parts: type[T]) -> T:
        """The parts that were sealed. Raises CursorInvalid for what was not made here."""
        if len(text) > CURSOR_CHARACTERS_MAX:
            raise CursorInvalid
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise CursorInvalid from None
        kid, mac, body = sealed[:1], sealed[1 : 1 + _MAC_BYTES], sealed[1 + _MAC_BYTES :]
        if not kid or kid[0] not in self._keys:
            raise CursorInvalid
        if not hmac.compare_digest(mac, self._mac(kid[0], kind, body)):
            raise CursorInvalid
        return msgspec.msgpack.decode(body, type=parts)

    def _mac(self, kid: int, kind: str, body: bytes) -> bytes:
        text = f"cursor.v1\n{kind}\n{kid}\n".encode() + body
        return hmac.digest(self._keys[kid], text, "sha256")[:_MAC_BYTES]
