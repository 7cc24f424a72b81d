"""Action tokens: what they hold, how they are sealed, and the signing key of an action.

A token is `v1.` and the unpadded base64url of key number (1 byte), IV (12 random
bytes), AES-256-GCM ciphertext and tag; `v1.` and the key number are authenticated too.
"""

import base64
import binascii
import hmac
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.ids import random_bytes
from chassis.keyring import Keyring

NONCE_BYTES = 16

_PREFIX = "v1."
_IV_BYTES = 12
_CHARACTERS_MAX = 256
# Action id, user id, nonce, points, issued, expires, completed; the type's name follows.
_LAYOUT = struct.Struct(">16s16s16sqqq?")


class Sealed(NamedTuple):
    """What a token holds. Ids are lower-case UUIDs, times Unix milliseconds."""

    action_id: str
    user_id: str
    action_type: str
    points: int
    nonce: bytes
    issued_at_ms: int
    expires_at_ms: int
    completed: bool  # the proof was verified before this token was made
    kid: int  # number of the keys, beside the seal but bound by it


class Sealer:
    """Seals and opens tokens, and derives signing keys. No I/O."""

    def __init__(self, sealing: Keyring, signing: Keyring) -> None:
        """`signing` must hold every number of `sealing`."""
        self.kid = sealing.current  # of new actions
        numbers = [number for number in range(256) if number in sealing]
        self._ciphers = {number: AESGCM(sealing[number]) for number in numbers}
        self._bound = {number: b"v1." + bytes((number,)) for number in numbers}
        # HKDF's first step (RFC 5869) with an empty salt, once per master key.
        self._masters = {
            number: hmac.digest(bytes(32), signing[number], "sha256") for number in numbers
        }

    def seal(self, sealed: Sealed) -> str:
        """A token of the key `sealed.kid`; another one at each call."""
        content = _LAYOUT.pack(
            _id_bytes(sealed.action_id),
            _id_bytes(sealed.user_id),
            sealed.nonce,
            sealed.points,
            sealed.issued_at_ms,
            sealed.expires_at_ms,
            sealed.completed,
        )
        iv, bound = random_bytes(_IV_BYTES), self._bound[sealed.kid]
        box = self._ciphers[sealed.kid].encrypt(iv, content + sealed.action_type.encode(), bound)
        return _PREFIX + encode(bound[-1:] + iv + box)

    def open(self, token: str) -> Sealed | None:
        """What the token holds; None for one that is not ours, or not as we made it."""
        raw = _decode(token)
        if raw is None or raw[0] not in self._ciphers:
            return None
        kid = raw[0]
        iv, box = raw[1 : 1 + _IV_BYTES], raw[1 + _IV_BYTES :]
        try:
            content = self._ciphers[kid].decrypt(iv, box, self._bound[kid])
        except InvalidTag:
            return None
        action, user, nonce, points, issued, expires, completed = _LAYOUT.unpack_from(content)
        return Sealed(
            _id(action),
            _id(user),
            content[_LAYOUT.size :].decode("ascii"),
            points,
            nonce,
            issued,
            expires,
            completed,
            kid,
        )

    def signing_key(self, sealed: Sealed) -> bytes:
        """HKDF-SHA-256 of the master key `sealed.kid` for its action and player: 32 bytes."""
        # One block is all that 32 bytes take of HKDF's second step.
        info = f"sign.v1\n{sealed.action_id}\n{sealed.user_id}\x01".encode()
        return hmac.digest(self._masters[sealed.kid], info, "sha256")


def encode(raw: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(token: str) -> bytes | None:
    """The bytes of a token; None unless they encode to the very same token again.

    Decoders skip foreign characters and ignore the last one's spare bits, so that
    different tokens would decode alike.
    """
    if len(token) > _CHARACTERS_MAX or not token.startswith(_PREFIX):
        return None
    body = token[len(_PREFIX) :]
    try:
        raw = base64.urlsafe_b64decode(body + "==")
    except (ValueError, binascii.Error):
        return None
    if encode(raw) != body or len(raw) <= 1 + _IV_BYTES + _LAYOUT.size:
        return None
    return raw


def _id_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def _id(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
