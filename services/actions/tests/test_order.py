"""Tests of the order of checks: of any two faults, the one that is checked first answers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import pytest

from chassis import clock
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, new_user, stamp
from services.actions.tests.serving import Actions

FORMULA = "ORDER_FORMULA"
EVIDENCE = b'{"points":50}'

Spoil = Callable[[Play, pb.Claims], None]


def as_it_is(play: Play, claims: pb.Claims) -> None:
    pass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and the code it has."""

    code: str
    spoil: Spoil = as_it_is
    token: str = ""
    foreign: bool = False
    closed: bool = False
    late: bool = False
    only: str = ""  # on redeeming, on completing, or on types with a formula
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.code.lower()


def resign(play: Play, claims: pb.Claims) -> None:
    """Signs the claims as they now stand, as the owner would."""
    proof = claims.proof
    proof.checksum = play.checksum(proof.completion_time_ms, claims.timestamp, proof.evidence)
    if claims.HasField("client_signature"):
        claims.client_signature = play.signature(claims.score_increment, claims.timestamp)


def other_type(play: Play, claims: pb.Claims) -> None:
    claims.action_type = "COMPLETE_QUEST"


def stale(play: Play, claims: pb.Claims) -> None:
    claims.timestamp = stamp(-61)
    resign(play, claims)


def worth(points: int) -> Spoil:
    def spoil(play: Play, claims: pb.Claims) -> None:
        claims.score_increment = points
        resign(play, claims)

    return spoil


def evidence(text: bytes) -> Spoil:
    def spoil(play: Play, claims: pb.Claims) -> None:
        claims.proof.evidence = text
        resign(play, claims)

    return spoil


def too_fast(play: Play, claims: pb.Claims) -> None:
    claims.proof.completion_time_ms = 999
    resign(play, claims)


def wrong_signature(play: Play, claims: pb.Claims) -> None:
    claims.client_signature = "0" * 64


def wrong_checksum(play: Play, claims: pb.Claims) -> None:
    claims.proof.checksum = "0" * 64


def no_proof(play: Play, claims: pb.Claims) -> None:
    claims.ClearField("proof")


# In the order of the checks. Faults of one line have one place: they cannot come together.
ORDER: list[list[Fault]] = [
    [Fault("TOKEN_INVALID", token="v1.forged", only="redeem")],
    [Fault("ACTION_NOT_FOUND", foreign=True, only="complete", name="foreign action")],
    [
        Fault("TOKEN_MISMATCH", foreign=True, only="redeem", name="foreign token"),
        Fault("TOKEN_MISMATCH", other_type),
    ],
    [Fault("ACTION_CLOSED", closed=True)],
    [Fault("TOKEN_EXPIRED", late=True)],
    [Fault("TIMESTAMP_OUT_OF_RANGE", stale)],
    [
        Fault("SCORE_OUT_OF_RANGE", worth(1001), only="redeem"),
        Fault("SCORE_MISMATCH", worth(100), only="redeem"),
        Fault("VALIDATION_FAILED", evidence(b"{}"), only="formula"),
        Fault("SCORE_OUT_OF_RANGE", evidence(b'{"points":9}'), only="formula", name="beyond"),
    ],
    [
        Fault("SIGNATURE_INVALID", wrong_signature, only="redeem", name="wrong signature"),
        Fault("SIGNATURE_INVALID", wrong_checksum, name="wrong checksum"),
    ],
    [Fault("PROOF_REQUIRED", no_proof)],
    [Fault("SUSPICIOUS_ACTIVITY", too_fast)],
]
LAST = (wrong_signature, wrong_checksum, no_proof)  # else what is signed again would mend them
PROVED = ("wrong checksum", "validation_failed", "beyond", "suspicious_activity")


def fits(first: Fault, second: Fault, way: str, *, formula: bool) -> bool:
    """Whether an attempt can have both faults."""
    if any(one.only not in ("", way, "formula" if formula else "") for one in (first, second)):
        return False
    if second.spoil is no_proof:
        # Without a proof nothing is wrong with it, and no formula computes what an amount
        # should have been.
        return str(first) not in PROVED and not (formula and first.code == "SCORE_MISMATCH")
    return not (first.spoil is no_proof and str(second) in PROVED)


CASES = [
    pytest.param(first, second, way, formula, id=f"{way}-{first}-{second}{'-formula' * formula}")
    for earlier, later in combinations(ORDER, 2)
    for first in earlier
    for second in later
    for way in ("redeem", "complete")
    for formula in (False, True)
    if fits(first, second, way, formula=formula)
]


async def code(actions: Actions, way: str, *faults: Fault, formula: bool) -> str:
    """What an attempt with all these faults is refused with."""
    if formula and FORMULA not in {one.action_type for one in actions.catalogue.types()}:
        await actions.create_type(
            FORMULA,
            points=0,
            formula="evidence_points",
            points_min=10,
            points_max=1000,
            min_duration_ms=1000,
            token_ttl_s=330,
        )
    play = await actions.issue(new_user(), FORMULA if formula else "WIN_GAME")
    if any(fault.closed for fault in faults):
        await actions.settle(play, awarded=False)
    with clock.ahead(400 if any(fault.late for fault in faults) else 6):
        caller = new_user() if any(fault.foreign for fault in faults) else ""
        claims = play.completion(completion_ms=1500, evidence=EVIDENCE)
        if way == "redeem":
            claims.score_increment = 50
            claims.client_signature = play.signature(50, claims.timestamp)
        for fault in sorted(faults, key=lambda one: one.spoil in LAST):
            fault.spoil(play, claims)
        token = next((fault.token for fault in faults if fault.token), "")
        result: pb.VerifyResult | pb.CompleteResult
        if way == "redeem":
            result = await actions.verify(play, claims, caller=caller, token=token)
        else:
            result = await actions.complete(play, claims, caller=caller)
    return result.failure.code


@pytest.mark.parametrize(("first", "second", "way", "formula"), CASES)
async def test_of_two_faults_the_one_that_is_checked_first_counts(
    actions: Actions, *, first: Fault, second: Fault, way: str, formula: bool
) -> None:
    assert await code(actions, way, first, second, formula=formula) == first.code
    # Each of them alone is a fault too.
    assert await code(actions, way, second, formula=formula) == second.code


@pytest.mark.parametrize("formula", [False, True])
@pytest.mark.parametrize("way", ["redeem", "complete"])
async def test_without_a_fault_nothing_is_refused(
    actions: Actions, way: str, *, formula: bool
) -> None:
    assert await code(actions, way, formula=formula) == ""


async def test_a_completed_action_is_reported_before_any_fault_but_the_owners(
    actions: Actions,
) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        await actions.complete(play, play.completion(completion_ms=1500))
        for spoil in (as_it_is, stale, wrong_checksum, no_proof, too_fast):
            claims = play.completion()
            spoil(play, claims)
            assert (await actions.complete(play, claims)).failure.code == "ACTION_COMPLETED"
        claims = play.completion()
        other_type(play, claims)
        assert (await actions.complete(play, claims)).failure.code == "TOKEN_MISMATCH"
