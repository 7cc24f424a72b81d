"""Who calls: the one verifier of access tokens, for requests and sockets alike.

Nothing else in the gateway looks into a token. The order of the checks is fixed: no
key is used before the token's form and header are right, and no claim is believed
before the signature is.
"""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import jwt
import msgspec
from cachetools import LRUCache
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from chassis import clock
from chassis.errors import Failed, Forbidden, Unauthenticated
from chassis.ids import is_uuid
from chassis.telemetry import log

TOKEN_BYTES_MAX = 4096
LEEWAY_S = 30
CACHE_MAX = 10_000
REFETCH_S = 60.0

# What only a game server may do. It may do nothing else.
CLIENT_SCOPES = frozenset({"scores:award"})

_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_JWS = jwt.PyJWS(algorithms=["RS256"])


class AccessTokenMissing(Unauthenticated):
    """An access token is required."""

    def __init__(self) -> None:
        super().__init__(code="UNAUTHENTICATED")


class AccessTokenInvalid(Unauthenticated):
    """The access token is not valid."""

    def __init__(self) -> None:
        super().__init__(code="UNAUTHENTICATED")


class AccessTokenExpired(Unauthenticated):
    """The access token has expired."""


class ScopeMissing(Forbidden):
    """Your role does not allow this."""

    def __init__(self, scope: str) -> None:
        super().__init__(code="FORBIDDEN")
        self.scope = scope  # that the access token would have to hold


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a valid access token speaks for: a player, or a game server."""

    user_id: str  # of a game server the client's id
    scopes: frozenset[str]
    expires_at_ms: int
    username: str = ""
    name_version: int = 0
    action_types: tuple[str, ...] | None = None  # a game server's; None: it is a player

    def may(self, scope: str) -> bool:
        """Whether this token opens what needs `scope`: what game servers do is closed to
        players, all else to game servers, even where the token lists the scope."""
        is_client = self.action_types is not None
        return scope in self.scopes and (scope in CLIENT_SCOPES) == is_client


ANONYMOUS = Caller(user_id="", scopes=frozenset(), expires_at_ms=0)  # no token was shown


class Verifier:
    """Verifies access tokens against auth's public keys.

    `fetch` returns the JWKS document. Results are kept until the token expires.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], *, issuer: str, audience: str):
        self._fetch = fetch
        self._issuer, self._audience = issuer, audience
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._seen: LRUCache[bytes, Caller] = LRUCache(CACHE_MAX)
        self._unknown_kid = asyncio.Event()
        self.jwks = b""  # the document the keys came from

    def verify(self, token: str) -> Caller:
        """Raises AccessTokenInvalid, AccessTokenExpired."""
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise AccessTokenInvalid
        digest = hashlib.sha256(token.encode()).digest()
        caller = self._seen.get(digest)
        if caller is None:
            caller = self._verified(token)
            self._seen[digest] = caller
        if clock.now_ms() >= caller.expires_at_ms + LEEWAY_S * 1000:
            del self._seen[digest]
            raise AccessTokenExpired
        return caller

    async def fetch(self) -> None:
        """Takes auth's present keys. Raises Failed when auth is unavailable, ValueError when the
        document is not as it must be; the keys known before stay then."""
        document = await self._fetch()
        keys = _read_keys(document)
        if not self._keys.keys() <= keys.keys():
            # What a withdrawn key signed is not valid any more.
            self._seen.clear()
        self._keys, self.jwks = keys, document

    async def follow(self) -> None:
        """Fetches the keys every 60 s, and at once for an unknown key id, but that no more
        often: invented key ids must not make work for auth."""
        loop = asyncio.get_running_loop()
        fetched_s = loop.time() - REFETCH_S
        while True:
            try:
                async with asyncio.timeout(REFETCH_S):
                    await self._unknown_kid.wait()
                    await asyncio.sleep(fetched_s + REFETCH_S - loop.time())
                    fetched_s = loop.time()
            except TimeoutError:
                pass
            self._unknown_kid.clear()
            try:
                await self.fetch()
            except (Failed, ValueError) as error:
                log.warning("keys_not_fetched", error=repr(error))

    def _verified(self, token: str) -> Caller:
        parts = token.split(".")
        if len(parts) != 3:
            raise AccessTokenInvalid
        header_bytes, claims_bytes, _ = (_decode(part) for part in parts)
        try:
            key = self._keys.get(_HEADER.decode(header_bytes).kid)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AccessTokenInvalid from None
        if key is None:
            self._unknown_kid.set()
            raise AccessTokenInvalid
        try:
            _JWS.decode(token, key, algorithms=["RS256"])
        except jwt.InvalidTokenError:
            raise AccessTokenInvalid from None
        return self._believed(claims_bytes)

    def _believed(self, claims_bytes: bytes) -> Caller:
        """The identity in claims whose signature was right."""
        try:
            claims = _COMMON.decode(claims_bytes)
            if claims.action_types is None:
                claims = _PLAYER.decode(claims_bytes)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise AccessTokenInvalid from None
        if claims.iss != self._issuer or claims.aud != self._audience or not is_uuid(claims.sub):
            raise AccessTokenInvalid
        if max(claims.nbf, claims.iat) > clock.now_ms() / 1000 + LEEWAY_S:
            raise AccessTokenInvalid
        if claims.action_types is not None and claims.sub != claims.client_id:
            raise AccessTokenInvalid
        return Caller(
            user_id=claims.sub,
            username=claims.preferred_username,
            name_version=claims.name_ver,
            scopes=frozenset(claims.scope.split()),
            expires_at_ms=claims.exp * 1000,
            action_types=claims.action_types,
        )


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: Literal["RS256"]
    typ: Literal["at+jwt"]
    kid: Annotated[str, msgspec.Meta(pattern=rf"\A{_KID.pattern}\Z")]


class _Claims(msgspec.Struct):
    iss: str
    sub: str
    aud: str
    exp: int
    iat: int
    nbf: int
    jti: str
    client_id: str
    scope: str
    action_types: tuple[str, ...] | None = None  # a game server's
    name_ver: int = 0
    preferred_username: str = ""


class _PlayerClaims(_Claims, kw_only=True):
    roles: list[str]
    sid: str
    ver: int
    name_ver: int
    preferred_username: str


class _Key(msgspec.Struct):
    kty: str
    use: str
    alg: str
    kid: str
    n: str
    e: str


class _KeySet(msgspec.Struct):
    keys: list[_Key]


_HEADER = msgspec.json.Decoder(_Header)
_COMMON = msgspec.json.Decoder(_Claims)
_PLAYER = msgspec.json.Decoder(_PlayerClaims)


def _decode(part: str) -> bytes:
    """Strict base64url: one text for each value, so that no flipped bit decodes alike."""
    try:
        value = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise AccessTokenInvalid from None
    if not part or base64.urlsafe_b64encode(value).rstrip(b"=").decode() != part:
        raise AccessTokenInvalid
    return value


def _read_keys(document: bytes) -> dict[str, RSAPublicKey]:
    """The keys of a JWKS document, all or none. Raises ValueError."""
    keys: dict[str, RSAPublicKey] = {}
    try:
        found = msgspec.json.decode(document, type=_KeySet).keys
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    for key in found:
        if (key.kty, key.use, key.alg) != ("RSA", "sig", "RS256"):
            raise ValueError("a key that is not for RS256 signatures")
        if not _KID.fullmatch(key.kid) or key.kid in keys:
            raise ValueError("a key id that is malformed or there twice")
        try:
            n, e = (int.from_bytes(_decode(part), "big") for part in (key.n, key.e))
        except AccessTokenInvalid:
            raise ValueError("a key that is not base64url") from None
        if n.bit_length() < 2048:
            raise ValueError("a key that is too short")
        keys[key.kid] = RSAPublicNumbers(e, n).public_key()
    if not keys:
        raise ValueError("no keys")
    return keys
