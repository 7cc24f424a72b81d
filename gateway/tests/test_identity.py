"""Access tokens that are forged, foreign, old or of another kind; keys that are unavailable."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chassis import clock
from chassis.errors import Unauthenticated, Unavailable
from chassis.testing import eventually
from gateway.edge import identity
from gateway.edge.identity import AccessTokenExpired, AccessTokenInvalid, Verifier
from gateway.tests.edge import Edge
from gateway.tests.services import ADA, AUDIENCE, ISSUER, Signer, encoded, part

HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": "key-1"}


class Auth:
    """Returns the JWKS document, and counts how often."""

    def __init__(self, *keys: dict[str, str]) -> None:
        self.keys = list(keys)
        self.unavailable = False
        self.calls = 0

    async def fetch(self) -> bytes:
        self.calls += 1
        if self.unavailable:
            raise Unavailable
        return json.dumps({"keys": self.keys}).encode()


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture
def auth(signer: Signer) -> Auth:
    return Auth(signer.public())


@pytest.fixture
async def verifier(auth: Auth) -> Verifier:
    verifier = Verifier(auth.fetch, issuer=ISSUER, audience=AUDIENCE)
    await verifier.fetch()
    return verifier


def test_a_right_token_names_the_caller(verifier: Verifier, signer: Signer) -> None:
    found = verifier.verify(signer.token(roles=["player", "admin"], scope="a b"))

    assert (found.user_id, found.username, found.name_version) == (ADA, "ada", 3)
    assert found.scopes == {"a", "b"}
    assert found.expires_at_ms > clock.now_ms()


def forged_with_the_public_key(signer: Signer) -> str:
    pem = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signing = f"{part({**HEADER, 'alg': 'HS256'})}.{part(signer.claims())}"
    return f"{signing}.{encoded(hmac.digest(pem, signing.encode(), hashlib.sha256))}"


def with_header(signer: Signer, **changed: Any) -> str:
    header = {name: value for name, value in {**HEADER, **changed}.items() if value is not None}
    return signer.signed(header, signer.claims())


CLAIMS = ("iss", "aud", "exp", "iat", "nbf", "jti", "sid", "ver", "name_ver", "roles")


def without(claim: str, signer: Signer) -> str:
    changed: dict[str, Any] = {claim: None}
    return signer.token(**changed)


def last_bits_flipped(signer: Signer) -> str:
    """Another text that a lax decoder reads as the same signature."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = signer.token()
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


FORGED: dict[str, Callable[[Signer], str]] = {
    "empty": lambda s: "",
    "no token at all": lambda s: "abc",
    "two parts": lambda s: s.token().rpartition(".")[0],
    "four parts": lambda s: s.token() + ".x",
    "a blank signature": lambda s: s.token().rpartition(".")[0] + ".",
    "a null signature": lambda s: s.token().rpartition(".")[0] + "." + encoded(bytes(256)),
    "a short signature": lambda s: s.token()[:-4],
    "padding": lambda s: s.token() + "==",
    "a line feed": lambda s: s.token() + "\n",
    "a standard alphabet": lambda s: s.token()[:-2] + "+/",
    "flipped idle bits": last_bits_flipped,
    "not ASCII": lambda s: s.token()[:-1] + "é",
    "longer than 4 KiB": lambda s: s.token(extra="x" * 4096),
    "another's signature": lambda s: Signer().token(),
    "alg none": lambda s: f"{part({**HEADER, 'alg': 'none'})}.{part(s.claims())}.",
    "alg none, signed": lambda s: with_header(s, alg="none"),
    "alg nOnE": lambda s: with_header(s, alg="nOnE"),
    "alg HS256 with the public key": forged_with_the_public_key,
    "alg RS512": lambda s: with_header(s, alg="RS512"),
    "alg PS256": lambda s: with_header(s, alg="PS256"),
    "alg missing": lambda s: with_header(s, alg=None),
    "alg a list": lambda s: with_header(s, alg=["RS256"]),
    "typ missing": lambda s: with_header(s, typ=None),
    "typ JWT": lambda s: with_header(s, typ="JWT"),
    "typ of a refresh token": lambda s: with_header(s, typ="rt+jwt"),
    "kid missing": lambda s: with_header(s, kid=None),
    "kid empty": lambda s: with_header(s, kid=""),
    "kid unknown": lambda s: with_header(s, kid="key-2"),
    "kid a path": lambda s: with_header(s, kid="../../../../dev/null"),
    "kid SQL": lambda s: with_header(s, kid="key-1' OR '1'='1"),
    "kid a command": lambda s: with_header(s, kid="key-1;id"),
    "kid huge": lambda s: with_header(s, kid="k" * 2000),
    "kid a number": lambda s: with_header(s, kid=1),
    "jku": lambda s: with_header(s, jku="https://evil.example/jwks.json"),
    "x5u": lambda s: with_header(s, x5u="https://evil.example/x.pem"),
    "an embedded jwk": lambda s: with_header(s, jwk=s.public()),
    "x5c": lambda s: with_header(s, x5c=["MIIB"]),
    "crit": lambda s: with_header(s, crit=["exp"]),
    "a header that is a list": lambda s: s.signed([HEADER], s.claims()),
    "claims that are a list": lambda s: s.signed(HEADER, [s.claims()]),
    "iss of staging": lambda s: s.token(iss="https://staging.scoreboard.test"),
    "iss with a slash": lambda s: s.token(iss=ISSUER + "/"),
    "aud of another": lambda s: s.token(aud="other"),
    "aud a list": lambda s: s.token(aud=[AUDIENCE]),
    "exp a string": lambda s: s.token(exp="9999999999"),
    "exp infinite": lambda s: s.token(exp=1e300),
    "nbf in the future": lambda s: s.token(nbf=clock.now_ms() // 1000 + 40),
    "iat in the future": lambda s: s.token(iat=clock.now_ms() // 1000 + 40),
    "a subject that is no user": lambda s: s.token("{l:00}:x"),
    "a refresh token": lambda s: "rt1.0190a000-0000-7000-8000-00000000c0de." + "x" * 43,
    **{f"{name} missing": partial(without, name) for name in CLAIMS},
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_access_token_of_ours_is_refused(
    verifier: Verifier, auth: Auth, signer: Signer, name: str
) -> None:
    with pytest.raises(AccessTokenInvalid) as refused:
        verifier.verify(FORGED[name](signer))

    assert refused.value.code == "UNAUTHENTICATED"
    assert auth.calls == 1  # Refusing needs no call.


@pytest.mark.parametrize("name", ["kid a path", "an embedded jwk", "alg none", "a refresh token"])
async def test_the_edge_refuses_them_too(edge: Edge, name: str) -> None:
    answer = await edge.call(
        "POST",
        "/api/v1/actions/request",
        {"actionType": "WIN_GAME"},
        token=FORGED[name](edge.fakes.signer),
    )

    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_lives_until_its_end_and_half_a_minute(verifier: Verifier, signer: Signer) -> None:
    token = signer.token()
    for ahead_s, lives in ((0, True), (628, True), (631, False), (628, True)):
        with clock.ahead(ahead_s):
            if lives:
                verifier.verify(token)
            else:
                with pytest.raises(AccessTokenExpired):
                    verifier.verify(token)


def test_a_clock_half_a_minute_off_is_forgiven(verifier: Verifier, signer: Signer) -> None:
    soon_s = clock.now_ms() // 1000 + 25
    assert verifier.verify(signer.token(nbf=soon_s, iat=soon_s))


async def test_a_token_is_verified_once(
    auth: Auth, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "CACHE_MAX", 3)
    verifier = Verifier(auth.fetch, issuer=ISSUER, audience=AUDIENCE)
    await verifier.fetch()
    token = signer.token()
    first = verifier.verify(token)

    assert verifier.verify(token) is first
    for number in range(5):
        verifier.verify(signer.token(jti=str(number)))
    assert len(verifier._seen) <= 3
    assert verifier.verify(token) is not first


async def test_a_withdrawn_key_ends_its_tokens(
    verifier: Verifier, auth: Auth, signer: Signer
) -> None:
    token = signer.token()
    verifier.verify(token)
    successor = Signer("key-2")

    auth.keys.append(successor.public())
    await verifier.fetch()
    assert verifier.verify(token)
    assert verifier.verify(successor.token())
    auth.keys.pop(0)
    await verifier.fetch()
    with pytest.raises(AccessTokenInvalid):
        verifier.verify(token)


@pytest.mark.parametrize(
    "changed",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"use": "enc"},
        {"alg": "HS256"},
        {"kid": "../x"},
        {"n": "AQAB"},
        {"n": encoded((2**2046 + 1).to_bytes(256, "big"))},  # 2047 bits
        {"n": "not base64!"},
        {"n": ""},
        {},  # the same id a second time
    ],
)
async def test_a_document_with_one_wrong_key_is_refused_whole(
    verifier: Verifier, auth: Auth, signer: Signer, changed: dict[str, str]
) -> None:
    auth.keys = [signer.public(), signer.public(**{"kid": "key-1", **changed})]
    if changed and "kid" not in changed:
        auth.keys[1]["kid"] = "key-2"
    with pytest.raises(ValueError):  # noqa: PT011  Any will do: it is only logged.
        await verifier.fetch()

    assert verifier.verify(signer.token())


async def test_an_unknown_key_id_is_requested_once_a_minute_however_many_there_are(
    verifier: Verifier, auth: Auth, signer: Signer
) -> None:
    following = asyncio.create_task(verifier.follow())
    try:
        successor = Signer("key-2")
        auth.keys.append(successor.public())
        with pytest.raises(Unauthenticated):
            verifier.verify(successor.token())

        async def fetched() -> bool:
            try:
                return bool(verifier.verify(successor.token()))
            except AccessTokenInvalid:
                return False

        await eventually(fetched)
        assert auth.calls == 2
        for number in range(1000):
            with pytest.raises(AccessTokenInvalid):
                verifier.verify(with_header(signer, kid=f"kid-{number % 10}"))
            if number % 100 == 0:
                await asyncio.sleep(0.01)
        assert auth.calls == 2
    finally:
        following.cancel()


async def test_keys_are_fetched_again_by_themselves_and_kept_while_auth_is_unavailable(
    verifier: Verifier, auth: Auth, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "REFETCH_S", 0.02)
    auth.unavailable = True
    following = asyncio.create_task(verifier.follow())
    try:

        async def called() -> bool:
            return auth.calls >= 4

        await eventually(called)
        assert verifier.verify(signer.token())
    finally:
        following.cancel()
