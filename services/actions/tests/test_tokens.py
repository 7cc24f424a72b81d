"""Tests of the token codec and of the signing keys."""

import hashlib
import uuid
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from chassis.keyring import Keyring
from chassis.settings import SettingsError
from services.actions.settings import Settings
from services.actions.tests.players import SEALING, SIGNING, decode, key, new_user
from services.actions.tokens import Sealed, Sealer, encode

SEALER = Sealer(SEALING, SIGNING)
INT64 = st.integers(-(2**63), 2**63 - 1)
CONTENTS = st.builds(
    Sealed,
    action_id=st.uuids().map(str),
    user_id=st.uuids().map(str),
    action_type=st.from_regex(r"[A-Z][A-Z0-9_]{1,39}", fullmatch=True),
    points=INT64,
    nonce=st.binary(min_size=16, max_size=16),
    issued_at_ms=INT64,
    expires_at_ms=INT64,
    completed=st.booleans(),
    kid=st.sampled_from([1, 2]),
)


def sealed(kid: int = 2) -> Sealed:
    return Sealed(new_user(), new_user(), "WIN_GAME", 50, bytes(16), 1, 2**62, False, kid)


@given(CONTENTS)
def test_a_token_holds_what_was_sealed(content: Sealed) -> None:
    assert SEALER.open(SEALER.seal(content)) == content


def test_a_token_has_the_published_form_and_is_another_each_time() -> None:
    content = sealed()
    first, second = SEALER.seal(content), SEALER.seal(content)

    assert first != second
    assert first.startswith("v1.")
    assert "=" not in first
    assert len(first) <= 256


def test_the_form_s_version_and_the_key_s_number_are_authenticated_too() -> None:
    content = sealed(kid=2)
    raw = decode(SEALER.seal(content).removeprefix("v1."))
    number, iv, box = raw[:1], raw[1:13], raw[13:]

    opened = AESGCM(SEALING[2]).decrypt(iv, box, b"v1." + number)

    assert number == bytes([2])
    assert opened.startswith(uuid.UUID(content.action_id).bytes)
    for other in (b"v2." + number, b"v1." + bytes([1]), number):
        with pytest.raises(InvalidTag):
            AESGCM(SEALING[2]).decrypt(iv, box, other)


def test_a_token_of_a_key_that_was_dropped_is_not_ours() -> None:
    token = SEALER.seal(sealed(kid=1))
    rotated = Sealer(Keyring(key(2, b"b")), Keyring(key(2, b"d")))

    assert rotated.open(token) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        "v1.",
        "v1.AA",
        "v1.A",
        "v1.!!!!",
        "v2." + "A" * 150,
        "v1." + "A" * 150,
        "v1." + "é" * 150,
        "v1." + "A" * 100_000,
        "v1." + encode(b"\x02" + bytes(100)),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert SEALER.open(token) is None


@given(st.uuids().map(str), st.uuids().map(str), st.sampled_from([1, 2]))
def test_a_signing_key_is_hkdf_of_its_master(action_id: str, user_id: str, kid: int) -> None:
    info = f"sign.v1\n{action_id}\n{user_id}".encode()
    published = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info)

    content = sealed(kid)._replace(action_id=action_id, user_id=user_id)
    derived = SEALER.signing_key(content)

    assert derived == published.derive(SIGNING[kid])


def test_every_action_and_player_has_a_signing_key_of_its_own() -> None:
    ids = [hashlib.sha256(bytes([n])).hexdigest() for n in range(4)]

    keys = {
        SEALER.signing_key(sealed(kid)._replace(action_id=action, user_id=user))
        for kid in (1, 2)
        for action in ids
        for user in ids
    }

    assert len(keys) == 32


def test_the_rings_must_have_the_same_numbers(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match="SIGNING_KEYS: lacks the number 1"):
        Settings(
            tls_dir=tmp_path,
            database_url="",
            fraud_target="",
            sealing_keys=SEALING,
            signing_keys=Keyring(key(2, b"d")),
        )
