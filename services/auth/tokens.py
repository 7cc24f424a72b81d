"""Tokens: signed access tokens (RFC 9068) with their public keys, and opaque refresh tokens."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from chassis import clock
from chassis.ids import is_uuid7, uuid7
from services.auth.store import Account

KEY_BITS_MIN = 3072
CLIENT_ID = "scoreboard"

# What each role may do, each role with all that the ones before it may.
SCOPES = {
    "player": ("actions:write", "scores:read", "realtime:subscribe", "profile:write"),
    "moderator": ("cases:read", "cases:decide", "players:read", "players:sanction", "scores:void"),
    "admin": ("catalogue:write", "boards:write", "rules:publish", "audit:read"),
}
STAFF = frozenset({"moderator", "admin"})
# What a game server may do, and no one else.
CLIENT_SCOPES = ("scores:award",)


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """How long an access token lives, and a session: unused, and at most."""

    access_s: int
    idle_s: int
    absolute_s: int


class SigningKey:
    """An RSA private key for RS256, from PEM. Raises ValueError where it is anything else."""

    def __init__(self, pem: str) -> None:
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError):
            raise ValueError("must be a private key in PEM") from None
        if not isinstance(key, RSAPrivateKey) or key.key_size < KEY_BITS_MIN:
            raise ValueError(f"must be an RSA key of at least {KEY_BITS_MIN} bits")
        self.private = key
        numbers = key.public_key().public_numbers()
        public = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}
        # RFC 7638: the members that matter, in alphabetical order, without spaces.
        self.kid = _base64url(hashlib.sha256(msgspec.json.encode(public)).digest())
        self.jwk = {**public, "use": "sig", "alg": "RS256", "kid": self.kid}

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


class AccessTokens:
    """Signs access tokens; `jwks` is the JSON document of the keys that verify them."""

    def __init__(self, key: SigningKey, *, issuer: str, audience: str) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self.jwks = msgspec.json.encode({"keys": [key.jwk]})

    def sign(self, account: Account, *, sid: str, life_s: int) -> str:
        """A token for `account` in session `sid` that expires in `life_s` seconds."""
        claims = {
            "sub": account.user_id,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes(account.roles)),
            "roles": account.roles,
            "sid": sid,
            "ver": account.ver,
            "name_ver": account.name_ver,
            "preferred_username": account.username,
        }
        return self._signed(claims, life_s)

    def sign_client(self, client_id: str, *, action_types: Sequence[str], life_s: int) -> str:
        """A token for a game server, which may award these types, for `life_s` seconds."""
        claims = {"sub": client_id, "client_id": client_id, "scope": " ".join(CLIENT_SCOPES)}
        return self._signed({**claims, "action_types": action_types}, life_s)

    def _signed(self, claims: Mapping[str, object], life_s: int) -> str:
        now_s = clock.now_ms() // 1000
        common = {
            "iss": self._issuer,
            "aud": self._audience,
            "exp": now_s + life_s,
            "iat": now_s,
            "nbf": now_s,
            "jti": uuid7(),
        }
        headers, key = {"typ": "at+jwt", "kid": self._key.kid}, self._key.private
        return jwt.encode({**common, **claims}, key, algorithm="RS256", headers=headers)


def scopes(roles: Sequence[str]) -> list[str]:
    """The scopes of these roles."""
    ranks = list(SCOPES)
    highest = max((ranks.index(role) for role in roles), default=-1)
    return [scope for role in ranks[: highest + 1] for scope in SCOPES[role]]


@dataclass(frozen=True)
class RefreshToken:
    """`rt1.<session>.<secret>`: opaque to clients, stored as its SHA-256 only."""

    sid: str
    secret: str  # 43 characters: 32 bytes as base64url

    @classmethod
    def first(cls, sid: str) -> "RefreshToken":
        """The one that a session begins with."""
        return cls(sid, secrets.token_urlsafe(32))

    @classmethod
    def read(cls, text: str) -> "RefreshToken | None":
        """The token written as `text`; None for anything else."""
        match = _REFRESH.fullmatch(text)
        return cls(match[1], match[2]) if match and is_uuid7(match[1]) else None

    def successor(self, *, key: bytes, generation: int) -> "RefreshToken":
        """The token of that generation which replaces this one.

        It follows from its parent and a secret key: two tabs that show the parent at the
        same time get the same one, though nothing was kept from which to read it.
        """
        message = f"{self.sid}\n{generation}\n{self.secret}".encode()
        return RefreshToken(self.sid, _base64url(hmac.digest(key, message, hashlib.sha256)))

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def __str__(self) -> str:
        return f"rt1.{self.sid}.{self.secret}"

    def __repr__(self) -> str:
        return f"RefreshToken(sid={self.sid!r})"


_REFRESH = re.compile(r"rt1\.([0-9a-f-]{36})\.([A-Za-z0-9_-]{43})")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
