"""Calls that a client repeats under one Idempotency-Key: run one at a time, answered alike.

The mark of a key stands in Redis for 24 h and holds the body's hash. An award's answer is the
ledger's to give again, also where the mark is lost; that of any other call is kept in it,
sealed. Whichever gives it again, the answer says so. While Redis is unavailable calls go on
without a mark.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis import clock
from chassis.errors import Conflict, Failed, FieldError, Unprocessable
from chassis.keyring import Keyring
from chassis.redis import UNAVAILABLE, Redis, Script
from chassis.telemetry import log
from gateway.edge import errors
from gateway.edge.errors import ValidationFailed

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_MS = 24 * 3600 * 1000
ANSWER_BYTES_MAX = 512 * 1024
CALL_S = 0.5  # A Redis that is slower counts as unavailable,
PAUSE_S = 0.5  # and gets no calls for that long.

# Other 4xx may be otherwise the next time, though nothing was changed in the request.
_FINAL = frozenset({400, 403, 404, 409, 422})
_KEY = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?')


class RequestInProgress(Conflict):
    """A request with this Idempotency-Key is still running."""

    def __init__(self) -> None:
        super().__init__(retry_after_s=1)


class IdempotencyKeyReused(Unprocessable):
    """This Idempotency-Key came before with another body."""


@dataclass(frozen=True)
class Once:
    """What a key does on a route.

    `kept`: the answer is kept here; else the ledger has it. `by_contents`: bodies that say the
    same are the same, however they are written.
    """

    kept: bool
    by_contents: bool = False

    def body_hash(self, body: object, raw: bytes) -> bytes:
        """SHA-256 of what a repeat must be equal in."""
        return hashlib.sha256(msgspec.json.encode(body) if self.by_contents else raw).digest()


@dataclass(frozen=True)
class Repeatable:
    """One request under a key. `key_hash` is of caller, route and key."""

    key_hash: bytes
    body_hash: bytes
    owner: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    @property
    def mark(self) -> str:
        """The name of its mark in Redis."""
        return f"idem:{{{self.key_hash.hex()}}}"

    @property
    def bound(self) -> bytes:
        """What its sealed answer belongs to, so that none can be put under another key."""
        return self.key_hash + self.body_hash


def repeatable(request: web.BaseRequest, *, subject: str, body_hash: bytes) -> Repeatable:
    """The request under its key. Raises ValidationFailed for a key that is none."""
    match = _KEY.fullmatch(request.headers[HEADER])
    if match is None:
        wrong = FieldError(HEADER, "INVALID", "1 to 255 visible ASCII characters.")
        raise ValidationFailed(errors=[wrong])
    scope = f"{subject}\n{request.method} {request.path}\n{match[1]}"
    return Repeatable(hashlib.sha256(scope.encode()).digest(), body_hash)


class Idempotency:
    """The marks of all keys."""

    def __init__(self, redis: Redis, keys: Keyring) -> None:
        self._script = Script.read(redis, __package__, "idempotency.lua")
        self._keys = keys
        self._paused_until_s = 0.0

    async def answer(
        self,
        call: Repeatable,
        run: Callable[[], Awaitable[web.StreamResponse]],
        *,
        kept: bool,
        budget_s: float,
        request_id: str,
    ) -> web.StreamResponse:
        """What `run` returns, or what it returned the first time.

        Raises IdempotencyKeyReused, RequestInProgress, or what `run` raises. `budget_s` is
        how long it may take: a mark whose gateway died counts no longer after that.
        """
        begin = ("begin", call.body_hash, call.owner, round(budget_s * 1000), KEPT_MS)
        outcome, *rest = await self._update(call, *begin) or (b"",)
        match outcome:
            case b"reused":
                raise IdempotencyKeyReused
            case b"running":
                raise RequestInProgress
            case b"answered":
                if answered := self._opened(call, rest[0]):
                    return answered
        final: web.StreamResponse | None = None
        try:
            final = response = await run()
            return response
        except Failed as failed:
            refusal = errors.response(errors.shown(failed), request_id)
            final = refusal if refusal.status in _FINAL else None
            raise
        finally:
            if outcome == b"begun":
                sealed = self._sealed(call, final) if kept else b""
                await self._update(call, "end", call.owner, sealed)

    async def _update(self, call: Repeatable, *args: str | bytes | int) -> list[bytes] | None:
        """The script's answer; None while Redis is unavailable."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._paused_until_s:
            return None
        try:
            async with asyncio.timeout(CALL_S):
                found: list[bytes] = await self._script([call.mark], [clock.offset_ms(), *args])
                return found
        except UNAVAILABLE as error:
            self._paused_until_s = now_s + PAUSE_S
            log.warning("idempotency_unavailable", error=repr(error))
            return None

    def _sealed(self, call: Repeatable, response: web.StreamResponse | None) -> bytes:
        """The answer as the mark holds it; empty for none, and for one that is too large."""
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return b""
        answer = _Answer(response.status, response.headers["Content-Type"], response.body)
        plain = msgspec.msgpack.encode(answer)
        if len(plain) > ANSWER_BYTES_MAX:
            log.warning("answer_not_kept", bytes=len(plain))
            return b""
        number, nonce = self._keys.current, secrets.token_bytes(12)
        cipher = AESGCM(self._keys[number])
        return bytes([number]) + nonce + cipher.encrypt(nonce, plain, call.bound)

    def _opened(self, call: Repeatable, sealed: bytes) -> web.Response | None:
        number, nonce, text = sealed[0], sealed[1:13], sealed[13:]
        try:
            plain = AESGCM(self._keys[number]).decrypt(nonce, text, call.bound)
            answer = msgspec.msgpack.decode(plain, type=_Answer)
        except (KeyError, InvalidTag, msgspec.DecodeError) as error:
            log.error("kept_answer_unreadable", stream="security", error=repr(error))
            return None
        headers = {"Content-Type": answer.content_type, REPLAYED: "true"}
        return web.Response(body=answer.body, status=answer.status, headers=headers)


class _Answer(msgspec.Struct, array_like=True):
    """An answer as it went out."""

    status: int
    content_type: str
    body: bytes
