"""Signatures: what is signed cannot be read as anything else."""

import hashlib
import hmac

import pytest

from scoreboard_client import Action, checksum, client_signature, evidence_hash

KEY = bytes(range(32))
ACTION = Action(
    action_id="018f0000-0000-7000-8000-000000000001",
    action_type="WIN_GAME",
    token="v1.x",
    signing_key="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    nonce="AAAAAAAAAAAAAAAAAAAAAA",
    issued_at="2026-01-01T00:00:00.000Z",
    expires_at="2026-01-01T00:05:30.000Z",
    score_increment=50,
    min_duration_ms=1000,
    max_duration_ms=300_000,
    clock_ahead_s=0.0,
)


def test_a_checksum_is_an_hmac_over_the_fields_in_the_contracts_order() -> None:
    text = (
        "proof.v1\nu1\n018f0000-0000-7000-8000-000000000001\nWIN_GAME\nAAAAAAAAAAAAAAAAAAAAAA\n"
        "4200\n2026-01-01T00:00:04.200Z\n"
    )

    made = checksum(
        ACTION, user_id="u1", completion_time_ms=4200, timestamp="2026-01-01T00:00:04.200Z"
    )

    assert made == hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()


def test_a_client_signature_is_an_hmac_over_the_fields_in_the_contracts_order() -> None:
    text = "score.v1\nu1\n018f0000-0000-7000-8000-000000000001\nWIN_GAME\n50\nnow"

    made = client_signature(ACTION, user_id="u1", timestamp="now")

    assert made == hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()


def test_evidence_hashes_alike_in_any_order_of_keys() -> None:
    assert evidence_hash({"b": 1, "a": "é"}) == evidence_hash({"a": "é", "b": 1})
    assert evidence_hash({"a": "é"}) == hashlib.sha256('{"a":"é"}'.encode()).hexdigest()
    assert evidence_hash(None) == ""


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"A": 1}, [1], {}])
def test_any_other_evidence_hashes_otherwise(other: object) -> None:
    assert evidence_hash(other) != evidence_hash({"a": 1})
