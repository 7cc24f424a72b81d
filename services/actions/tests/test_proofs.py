"""Tests of the canonical strings, the signatures and the timestamps."""

import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chassis import clock
from services.actions import proofs
from services.actions.catalogue import ActionType
from services.actions.proofs import Claims, Proof
from services.actions.tests.players import new_user, stamp
from services.actions.tokens import Sealed

KEY = bytes(32)
# Small pools, so that examples differ in few fields and by shifted digits.
IDS = st.sampled_from([new_user() for _ in range(2)])
SEALED = st.builds(
    Sealed,
    action_id=IDS,
    user_id=IDS,
    action_type=st.from_regex(r"A[1_]{1,3}", fullmatch=True),
    points=st.just(1),
    nonce=st.sampled_from([bytes(16), b"1" * 16]),
    issued_at_ms=st.just(0),
    expires_at_ms=st.just(2**62),
    completed=st.just(False),
    kid=st.just(1),
)
TIMESTAMPS = st.from_regex(r"1{1,3}-11-11T11:11:11(\.1{1,3})?Z", fullmatch=True)
AMOUNTS = st.sampled_from([1, 11, 111, -1])
PROOFS = st.builds(
    Proof,
    completion_time_ms=AMOUNTS,
    checksum=st.just(""),
    evidence=st.sampled_from([b"", b"1", b"11"]),
)


@given(*[st.tuples(SEALED, PROOFS, TIMESTAMPS)] * 2)
def test_distinct_proofs_never_share_bytes(
    one: tuple[Sealed, Proof, str], other: tuple[Sealed, Proof, str]
) -> None:
    assume(one != other)

    assert proofs.proof_text(*one) != proofs.proof_text(*other)


@given(*[st.tuples(SEALED.map(lambda s: s._replace(nonce=b"")), AMOUNTS, TIMESTAMPS)] * 2)
def test_distinct_updates_never_share_bytes(
    one: tuple[Sealed, int, str], other: tuple[Sealed, int, str]
) -> None:
    assume(one != other)

    assert proofs.score_text(*one) != proofs.score_text(*other)


def sealed(**changed: object) -> Sealed:
    content = Sealed(new_user(), new_user(), "LEVEL", 50, bytes(16), 0, 2**62, False, 1)
    return content._replace(**changed)  # type: ignore[arg-type]


def test_digits_shifted_between_neighbouring_fields_change_the_bytes() -> None:
    one = sealed()
    five, fifteen = Proof(405, "", b""), Proof(4051, "", b"")
    level5, level = one._replace(action_type="LEVEL5"), one

    # These three pairs were equal where the fields stood side by side without a mark.
    assert proofs.score_text(level5, 0, "T") != proofs.score_text(level, 50, "T")
    assert proofs.score_text(one, 1, "50T") != proofs.score_text(one, 15, "0T")
    assert proofs.proof_text(one, five, "150T") != proofs.proof_text(one, fifteen, "50T")


def test_a_signature_of_another_kind_never_counts() -> None:
    one = sealed()

    assert not proofs.score_text(one, 1, "T").startswith(b"proof.v1\n")
    assert not proofs.proof_text(one, Proof(1, "", b""), "T").startswith(b"score.v1\n")


@pytest.mark.parametrize(
    "form",
    [
        "",
        "0" * 63,
        "0" * 65,
        "é" * 64,
        "\ud800".encode("utf-16", "surrogatepass").hex(),
        "A" * 64,
        "0" * 63 + "\n",
        "0" * 63 + "٣",
    ],
)
def test_a_signature_of_another_form_is_a_wrong_one(form: str) -> None:
    assert not proofs.signature_right(b"text", form, KEY)


def test_the_upper_case_of_a_right_signature_is_a_wrong_one() -> None:
    right = hmac.digest(KEY, b"text", "sha256").hex()

    assert proofs.signature_right(b"text", right, KEY)
    assert not proofs.signature_right(b"text", right.upper(), KEY)


def refused(timestamp: str) -> bool:
    content = sealed()
    amount = content.points
    key = KEY
    text = proofs.score_text(content, amount, timestamp)
    claims = Claims(timestamp=timestamp, client_signature=hmac.digest(key, text, "sha256").hex())
    refusal = proofs.refusal(
        content._replace(completed=True),
        claims,
        bounds=BOUNDS,
        value=amount,
        closed=False,
        now_ms=clock.now_ms(),
        points_max=1000,
        key=key,
    )
    assert refusal is None or refusal.failure.code == "TIMESTAMP_OUT_OF_RANGE"
    return refusal is not None


BOUNDS = ActionType(
    action_type="LEVEL",
    title="",
    points=50,
    min_duration_ms=0,
    max_duration_ms=1,
    token_ttl_s=1,
    daily_cap=None,
    max_open=None,
    authoritative=False,
)


@pytest.mark.parametrize(
    ("ahead_s", "outcome"), [(-61, True), (-59.5, False), (0, False), (4.5, False), (6, True)]
)
def test_a_timestamp_may_be_a_minute_old_and_five_seconds_ahead(
    ahead_s: float, outcome: bool
) -> None:
    assert refused(stamp(ahead_s)) is outcome


def test_a_clock_that_steps_moves_the_window() -> None:
    at = stamp()

    with clock.ahead(61):
        assert refused(at)
    with clock.ahead(-6):
        assert refused(at)


def test_any_number_of_fraction_digits_and_any_zone_is_read() -> None:
    at = stamp()

    for form in (
        at,
        at[:19] + "Z",
        at[:-1] + "456789123456Z",
        at[:21] + "Z",
        at[:-1] + "+00:00",
        at.lower(),
    ):
        assert not refused(form), form


@pytest.mark.parametrize(
    "form",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T10:00:00",
        "20261121T100000Z",
        "2026-11-21 10:00:00Z",
        "2026-13-21T10:00:00Z",
        "2026-11-21T25:00:00Z",
        "2026-11-21T10:00:00.Z",
        "2026-W47-6T10:00:00Z",
        "\uff12026-11-21T10:00:00Z",
        "2026-11-21T10:00:00Z\n",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_what_is_no_timestamp_is_out_of_range(form: str) -> None:
    assert refused(form)
