"""Tests of Verify: the order of its checks, what closes an action, and what does not."""

from collections.abc import Callable

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis import clock
from chassis.testing import Certificates
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, new_user, stamp
from services.actions.tests.serving import Actions, open_actions

Fault = Callable[[Play, pb.Claims], None]


def resign(play: Play, claims: pb.Claims) -> None:
    """Signs the claims as they now stand, as the owner would."""
    claims.client_signature = play.signature(claims.score_increment, claims.timestamp)
    claims.proof.checksum = play.checksum(claims.proof.completion_time_ms, claims.timestamp)


def mismatch(play: Play, claims: pb.Claims) -> None:
    claims.action_type = "COMPLETE_QUEST"


def stale(play: Play, claims: pb.Claims) -> None:
    claims.timestamp = stamp(-61)
    resign(play, claims)


def out_of_range(play: Play, claims: pb.Claims) -> None:
    claims.score_increment = 1001
    resign(play, claims)


def other_amount(play: Play, claims: pb.Claims) -> None:
    claims.score_increment = 100
    resign(play, claims)


def wrong_signature(play: Play, claims: pb.Claims) -> None:
    claims.client_signature = "0" * 64


def wrong_checksum(play: Play, claims: pb.Claims) -> None:
    claims.proof.checksum = "0" * 64


def no_proof(play: Play, claims: pb.Claims) -> None:
    claims.ClearField("proof")


def too_fast(play: Play, claims: pb.Claims) -> None:
    claims.proof.completion_time_ms = 999
    resign(play, claims)


# The faults in the order of the checks, with the code of each.
ORDER: list[tuple[str, Fault]] = [
    ("TOKEN_MISMATCH", mismatch),
    ("TIMESTAMP_OUT_OF_RANGE", stale),
    ("SCORE_OUT_OF_RANGE", out_of_range),
    ("SCORE_MISMATCH", other_amount),
    ("SIGNATURE_INVALID", wrong_signature),
    ("PROOF_REQUIRED", no_proof),
    ("SUSPICIOUS_ACTIVITY", too_fast),
]


async def ready(actions: Actions) -> Play:
    return await actions.issue(new_user())


async def test_a_right_claim_is_verified_and_consumes_nothing(actions: Actions) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        claims = play.update()
        results = [await actions.verify(play, claims) for _ in range(2)]

    for result in results:
        assert not result.HasField("failure")
        assert not result.closes
        assert result.sealed.action_id == play.issued.action_id
        assert result.sealed.user_id == play.user_id
        assert result.points == 50
        assert 6000 <= result.elapsed_ms < 8000
    assert await actions.state(play) == "requested"


async def test_a_proof_alone_and_a_proof_with_evidence_are_verified(actions: Actions) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        at = stamp()
        claims = pb.Claims(timestamp=at, proof=play.proof(5000, at, b'{"level":3}'))
        assert not (await actions.verify(play, claims)).HasField("failure")

        claims.proof.evidence = b'{"level":4}'
        assert (await actions.verify(play, claims)).failure.code == "SIGNATURE_INVALID"


@pytest.mark.parametrize(("code", "fault"), [*ORDER, ("SIGNATURE_INVALID", wrong_checksum)])
async def test_every_fault_has_its_code(actions: Actions, code: str, fault: Fault) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        claims = play.update()
        fault(play, claims)
        result = await actions.verify(play, claims)

    assert result.failure.code == code
    assert result.sealed.action_id == play.issued.action_id
    assert result.closes == (code in ("SCORE_MISMATCH", "SUSPICIOUS_ACTIVITY"))
    assert result.claimed_ms == claims.proof.completion_time_ms
    assert (result.min_duration_ms, result.max_duration_ms) == (1000, 300_000)
    assert await actions.state(play) == ("refused" if result.closes else "requested")


async def test_a_token_ends_at_its_expiry_to_the_millisecond(actions: Actions) -> None:
    play = await ready(actions)
    assert play.issued.expires_at_ms - play.issued.issued_at_ms == 330_000

    left_s = (play.issued.expires_at_ms - clock.now_ms()) / 1000
    with clock.ahead(left_s - 2):
        assert not (await actions.verify(play, play.update())).HasField("failure")
    with clock.ahead(left_s + 0.001):
        assert (await actions.verify(play, play.update())).failure.code == "TOKEN_EXPIRED"


@pytest.mark.parametrize("amount", [0, -5, 1001, 2**63 - 1, -(2**63)])
async def test_an_amount_no_action_has_is_out_of_range_and_closes_nothing(
    actions: Actions, amount: int
) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        result = await actions.verify(play, play.update(amount=amount))

    assert result.failure.code == "SCORE_OUT_OF_RANGE"
    assert result.failure.detail == f"The stated number is {amount}; it must be 1 to 1000."
    assert not result.closes


async def test_another_amount_closes_only_where_it_is_validly_signed(actions: Actions) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        claims = play.update(amount=100)
        claims.client_signature = play.signature(50, claims.timestamp)
        unsigned = await actions.verify(play, claims)
        signed = await actions.verify(play, play.update(amount=100))

    assert (unsigned.failure.code, unsigned.closes) == ("SCORE_MISMATCH", False)
    assert (signed.failure.code, signed.closes) == ("SCORE_MISMATCH", True)


async def test_the_third_wrong_signature_of_the_owner_closes_the_action(actions: Actions) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        claims = play.update()
        wrong = pb.Claims()
        wrong.CopyFrom(claims)
        wrong_signature(play, wrong)
        tries = [await actions.verify(play, wrong, attempt=str(n)) for n in range(4)]
        after = await actions.verify(play, claims)

    assert [one.failure.code for one in tries] == ["SIGNATURE_INVALID"] * 3 + ["ACTION_CLOSED"]
    assert [one.closes for one in tries] == [False, False, True, False]
    assert after.failure.code == "ACTION_CLOSED"
    assert await actions.state(play) == "refused"


async def test_wrong_signatures_of_another_and_behind_other_faults_close_nothing(
    actions: Actions,
) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        wrong = play.update()
        wrong.timestamp = stamp(-61)  # signed for another time
        for _ in range(4):
            late = await actions.verify(play, wrong)
            foreign = await actions.verify(play, wrong, caller=new_user())
        result = await actions.verify(play, play.update())

    assert late.failure.code == "TIMESTAMP_OUT_OF_RANGE"
    assert foreign.failure.code == "TOKEN_MISMATCH"
    assert not result.HasField("failure")


async def test_another_players_token_is_refused_and_its_owner_can_still_spend_it(
    actions: Actions,
) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        foreign = await actions.verify(play, play.update(), caller=new_user())
        own = await actions.verify(play, play.update())

    assert foreign.failure.code == "TOKEN_MISMATCH"
    assert foreign.sealed.user_id == play.user_id
    assert not own.HasField("failure")


@pytest.mark.parametrize("claim", ["user_id", "action_id", "action_type"])
async def test_a_claim_that_is_not_the_tokens_is_a_mismatch(actions: Actions, claim: str) -> None:
    play = await ready(actions)
    with clock.ahead(6):
        claims = play.update()
        setattr(claims, claim, new_user())
        result = await actions.verify(play, claims)

    assert result.failure.code == "TOKEN_MISMATCH"


async def test_a_proof_of_another_action_is_a_wrong_one(actions: Actions) -> None:
    user = new_user()
    one, other = await actions.issue(user), await actions.issue(user)
    with clock.ahead(6):
        claims = one.update()
        claims.proof.CopyFrom(other.proof(5000, claims.timestamp))
        result = await actions.verify(one, claims)

    assert result.failure.code == "SIGNATURE_INVALID"


async def test_an_awarded_action_is_verified_again_and_no_fault_closes_it(
    actions: Actions, pool: asyncpg.Pool
) -> None:
    play = await ready(actions)
    await actions.settle(play, awarded=True)
    with clock.ahead(6):
        again = await actions.verify(play, play.update())
        faulty = await actions.verify(play, play.update(amount=100))
    await actions.settle(play, awarded=False)

    # Whether it was redeemed is the ledger's to say.
    assert not again.HasField("failure")
    assert (faulty.failure.code, faulty.closes) == ("SCORE_MISMATCH", False)
    assert await actions.state(play) == "awarded"
    assert await pool.fetchval("SELECT count(*) FROM actions.incidents") == 0


async def test_one_bad_item_does_not_fail_its_neighbours(actions: Actions) -> None:
    plays = [await ready(actions) for _ in range(3)]
    with clock.ahead(6):
        items = [
            pb.VerifyItem(
                user_id=play.user_id,
                action_token=play.issued.action_token,
                claims=play.update(),
            )
            for play in plays
        ]
        items[1].action_token = "v1.forged"
        reply = await actions.scores.Verify(pb.VerifyRequest(items=items))

    assert [one.failure.code for one in reply.results] == ["", "TOKEN_INVALID", ""]


@pytest.mark.parametrize(
    ("claimed_ms", "elapsed_s", "accepted"),
    [
        (999, 3, False),
        (1000, 3, True),
        (2000, 3, True),
        (2001, 3, False),
        (1000, 0.3, False),
        (2000, 1.2, False),  # more than the time it had, by enough for a slow machine
        (1000, 200, True),  # a long wait is no incident
    ],
)
async def test_the_bounds_of_a_type_hold_to_the_millisecond(
    actions: Actions, type_name: str, claimed_ms: int, elapsed_s: float, accepted: bool
) -> None:
    await actions.create_type(type_name, min_duration_ms=1000, token_ttl_s=300)
    play = await actions.issue(new_user(), type_name)
    with clock.ahead(elapsed_s):
        result = await actions.verify(play, play.update(completion_ms=claimed_ms))

    assert result.failure.code == ("" if accepted else "SUSPICIOUS_ACTIVITY")
    assert result.closes is not accepted


async def test_the_time_rule_holds_for_every_claim_and_wait(
    pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    # Hypothesis draws the examples beforehand: one loop carries all tests and their calls.
    examples: list[tuple[int, int]] = []

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(st.integers(0, 4000), st.integers(0, 2500))
    def draw(elapsed_ms: int, claimed_ms: int) -> None:
        examples.append((elapsed_ms, claimed_ms))

    draw()
    # Claimed within the tolerance and long enough, though the server saw less than that.
    examples += [(760, 1005), (800, 1000), (850, 1090)]
    async with open_actions(pool, certificates) as actions:
        await actions.create_type(
            type_name, min_duration_ms=1000, max_open=1000, token_ttl_s=60, max_duration_ms=2000
        )
        user = new_user()
        for elapsed_ms, claimed_ms in examples:
            play = await actions.issue(user, type_name)
            with clock.ahead(elapsed_ms / 1000):
                result = await actions.verify(play, play.update(completion_ms=claimed_ms))
            seen_ms = result.elapsed_ms
            strike = (
                min(seen_ms, claimed_ms) < 1000 or claimed_ms > 2000 or claimed_ms > seen_ms + 250
            )
            assert result.closes is strike, (seen_ms, claimed_ms)
            assert elapsed_ms <= seen_ms < elapsed_ms + 1000
