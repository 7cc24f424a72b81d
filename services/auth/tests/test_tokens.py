"""Access tokens and the keys that verify them."""

import base64
import hashlib
import json

import jwt
import pytest

from chassis import clock
from protos.auth_pb2 import KeysRequest
from services.auth.tests.auth_served import Auth
from services.auth.tokens import SigningKey, scopes

PLAYER = "actions:write scores:read realtime:subscribe profile:write"


async def test_an_access_token_verifies_against_the_published_keys_with_every_claim(
    auth: Auth,
) -> None:
    session = await auth.register("Ada")

    claims = await auth.claims(session)

    issued_s = claims["iat"]
    assert isinstance(issued_s, int)
    assert abs(issued_s - clock.now_ms() / 1000) < 5
    sid = session.refresh_token.split(".")[1]
    assert claims.pop("jti")
    assert claims == {
        "iss": "https://auth.test",
        "sub": session.user_id,
        "aud": "scoreboard",
        "exp": issued_s + 600,
        "iat": issued_s,
        "nbf": issued_s,
        "client_id": "scoreboard",
        "scope": PLAYER,
        "roles": ["player"],
        "sid": sid,
        "ver": 1,
        "name_ver": 1,
        "preferred_username": "Ada",
    }


async def test_the_header_says_what_kind_of_token_it_is_and_which_key_signed_it(
    auth: Auth,
) -> None:
    session = await auth.register("ada")
    [key] = json.loads((await auth.gateway.Keys(KeysRequest())).jwks)["keys"]

    assert jwt.get_unverified_header(session.access_token) == {
        "typ": "at+jwt",
        "alg": "RS256",
        "kid": key["kid"],
    }


async def test_the_published_key_is_public_only_and_named_by_its_thumbprint(auth: Auth) -> None:
    [key] = json.loads((await auth.gateway.Keys(KeysRequest())).jwks)["keys"]

    assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    canonical = f'{{"e":"{key["e"]}","kty":"RSA","n":"{key["n"]}"}}'
    digest = hashlib.sha256(canonical.encode()).digest()
    assert key["kid"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")


async def test_no_two_tokens_share_their_id(auth: Auth) -> None:
    session = await auth.register("ada")
    again = await auth.refresh(session.refresh_token)

    assert (await auth.claims(session))["jti"] != (await auth.claims(again))["jti"]


def test_each_role_may_do_what_the_lower_ones_may_and_more() -> None:
    moderator = [*PLAYER.split(), "cases:read", "cases:decide", "players:read"]
    moderator += ["players:sanction", "scores:void"]

    assert scopes(("player",)) == PLAYER.split()
    assert scopes(("player", "moderator")) == moderator
    assert scopes(("player", "admin")) == [
        *moderator,
        "catalogue:write",
        "boards:write",
        "rules:publish",
        "audit:read",
    ]
    assert scopes(()) == []


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----"])
def test_what_is_no_private_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="must be a private key in PEM"):
        SigningKey(text)
