"""Signatures over actions, and the checks of a claim in the order that decides its failure."""

import hashlib
import hmac
from enum import Enum, auto
from typing import NamedTuple

from chassis.clock import parse_rfc3339
from chassis.errors import Failed
from services.actions.catalogue import ActionType
from services.actions.failures import (
    ActionClosed,
    ProofRequired,
    ScoreMismatch,
    ScoreOutOfRange,
    SignatureInvalid,
    SuspiciousActivity,
    TimestampOutOfRange,
    TokenExpired,
    TokenMismatch,
)
from services.actions.tokens import Sealed, encode

TIMESTAMP_OLD_MS = 60_000
TIMESTAMP_AHEAD_MS = 5_000
CLAIM_AHEAD_MS = 250  # what a claimed duration may exceed the elapsed one by


class Proof(NamedTuple):
    """How long an action took, by the client, under a checksum."""

    completion_time_ms: int
    checksum: str
    evidence: bytes  # canonical JSON; empty where there is none


class Claims(NamedTuple):
    """What the caller states beside the token; None: not stated."""

    user_id: str | None = None
    action_id: str | None = None
    action_type: str | None = None
    score_increment: int | None = None
    timestamp: str = ""
    client_signature: str | None = None
    proof: Proof | None = None


class Refusal(NamedTuple):
    """Why a claim is refused, and what follows from it."""

    failure: Failed
    rule: str = ""  # of the incident to report; empty: none
    observed: int = 0
    threshold: int = 0
    closes: bool = False  # the action
    counts: bool = False  # as a wrong signature; the third closes the action


def proof_text(sealed: Sealed, proof: Proof, timestamp: str) -> bytes:
    """What a proof's checksum signs. No field can hold the line feed that parts them."""
    evidence_hash = hashlib.sha256(proof.evidence).hexdigest() if proof.evidence else ""
    return (
        f"proof.v1\n{sealed.user_id}\n{sealed.action_id}\n{sealed.action_type}\n"
        f"{encode(sealed.nonce)}\n{proof.completion_time_ms}\n{timestamp}\n{evidence_hash}"
    ).encode()


def score_text(sealed: Sealed, score_increment: int, timestamp: str) -> bytes:
    """What a client signature signs."""
    return (
        f"score.v1\n{sealed.user_id}\n{sealed.action_id}\n{sealed.action_type}\n"
        f"{score_increment}\n{timestamp}"
    ).encode()


def worth(sealed: Sealed, proof: Proof | None, bounds: ActionType | None) -> int | Failed | None:
    """What the action is worth: what is sealed, else what its type now makes of the proof;
    why this proof does not show it; None where there is no proof."""
    if sealed.points:
        return sealed.points
    if proof is None or bounds is None:
        return None
    try:
        return bounds.computed(evidence=proof.evidence, completion_ms=proof.completion_time_ms)
    except Failed as failed:
        return failed


def mismatch(
    sealed: Sealed, claims: Claims, *, caller: str, bounds: ActionType | None, key: bytes
) -> Refusal | None:
    """Whether the token is another player's or another action's than is stated."""
    if caller != sealed.user_id:
        # Signed with the action's key it shows two players working together, or a key stolen
        # with its token. Unsigned, any player could frame the owner with it.
        value = worth(sealed, claims.proof, bounds)
        foreign = _signed(sealed, claims, key, value) is _Signed.RIGHT
        return Refusal(TokenMismatch(), rule="foreign" if foreign else "")
    if (
        claims.user_id not in (None, sealed.user_id)
        or claims.action_id not in (None, sealed.action_id)
        or claims.action_type not in (None, sealed.action_type)
    ):
        return Refusal(TokenMismatch())
    return None


def refusal(
    sealed: Sealed,
    claims: Claims,
    *,
    bounds: ActionType,
    value: int | Failed | None,
    closed: bool,
    now_ms: int,
    points_max: int,
    key: bytes,
) -> Refusal | None:
    """The first check that the claims on an own action fail; None: they hold.

    `value` is what the action is worth, as `worth` computes it.
    """
    signed = _signed(sealed, claims, key, value)
    return (
        _standing(sealed, claims, closed=closed, now_ms=now_ms)
        or _amount(claims, value, signed, points_max=points_max)
        or _signature(sealed, claims, signed)
        or _times(bounds, sealed, claims.proof, now_ms=now_ms)
    )


def signature_right(text: bytes, signature: str, key: bytes) -> bool:
    """Whether `signature` is the lower-case hex HMAC-SHA-256 of `text`."""
    right = hmac.digest(key, text, "sha256").hex()
    return hmac.compare_digest(right.encode(), signature.encode())


class _Signed(Enum):
    NOT = auto()  # neither signature nor checksum is there
    RIGHT = auto()  # all that are there are right
    WRONG = auto()


def _signed(sealed: Sealed, claims: Claims, key: bytes, value: int | Failed | None) -> _Signed:
    signed = _Signed.NOT
    amount = value if claims.score_increment is None else claims.score_increment
    # Over an amount that nothing states, a client signature is neither right nor wrong.
    if claims.client_signature is not None and isinstance(amount, int):
        text = score_text(sealed, amount, claims.timestamp)
        if not signature_right(text, claims.client_signature, key):
            return _Signed.WRONG
        signed = _Signed.RIGHT
    if claims.proof is not None:
        text = proof_text(sealed, claims.proof, claims.timestamp)
        if not signature_right(text, claims.proof.checksum, key):
            return _Signed.WRONG
        signed = _Signed.RIGHT
    return signed


def _in_time(timestamp: str, now_ms: int) -> bool:
    try:
        at_ms = parse_rfc3339(timestamp)
    except ValueError:
        return False
    return now_ms - TIMESTAMP_OLD_MS <= at_ms <= now_ms + TIMESTAMP_AHEAD_MS


def _standing(sealed: Sealed, claims: Claims, *, closed: bool, now_ms: int) -> Refusal | None:
    if closed:
        return Refusal(ActionClosed())
    if now_ms >= sealed.expires_at_ms:
        return Refusal(TokenExpired())
    return None if _in_time(claims.timestamp, now_ms) else Refusal(TimestampOutOfRange())


def _amount(
    claims: Claims, value: int | Failed | None, signed: _Signed, *, points_max: int
) -> Refusal | None:
    amount = claims.score_increment
    if amount is not None and amount != value and not 1 <= amount <= points_max:
        return Refusal(ScoreOutOfRange(f"The points must be 1 to {points_max}."))
    if isinstance(value, Failed):
        return Refusal(value)
    if amount is None or value is None or amount == value:
        return None
    # Only the client signature covers the amount.
    if signed is not _Signed.RIGHT or claims.client_signature is None:
        return Refusal(ScoreMismatch())
    return Refusal(ScoreMismatch(), rule="amount", observed=amount, threshold=value, closes=True)


def _signature(sealed: Sealed, claims: Claims, signed: _Signed) -> Refusal | None:
    if signed is _Signed.WRONG:
        return Refusal(SignatureInvalid(), rule="proof", counts=True)
    if claims.proof is None and not sealed.completed:
        return Refusal(ProofRequired())
    return Refusal(SignatureInvalid()) if signed is _Signed.NOT else None


def _times(
    bounds: ActionType, sealed: Sealed, proof: Proof | None, *, now_ms: int
) -> Refusal | None:
    """The server's clock is the measure; a long wait is no incident."""
    if proof is None:
        return None  # verified when the action was completed
    claimed_ms, elapsed_ms = proof.completion_time_ms, now_ms - sealed.issued_at_ms
    # No one is accused of bounds that came after the play began.
    rule = "time" if sealed.issued_at_ms >= bounds.times_since_ms else ""
    if claimed_ms > elapsed_ms + CLAIM_AHEAD_MS:
        return _suspicious("time", claimed_ms, elapsed_ms + CLAIM_AHEAD_MS)
    if claimed_ms < bounds.min_duration_ms:
        return _suspicious(rule, claimed_ms, bounds.min_duration_ms)
    if elapsed_ms < bounds.min_duration_ms:
        return _suspicious(rule, elapsed_ms, bounds.min_duration_ms)
    if claimed_ms > bounds.max_duration_ms:
        return _suspicious(rule, claimed_ms, bounds.max_duration_ms)
    return None


def _suspicious(rule: str, observed_ms: int, threshold_ms: int) -> Refusal:
    return Refusal(
        SuspiciousActivity(), rule=rule, observed=observed_ms, threshold=threshold_ms, closes=True
    )
