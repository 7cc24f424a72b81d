"""Tests of what a refusal says beside its code: the bound, and what was held against it."""

from typing import Any

import pytest

from chassis import clock
from chassis.clock import parse_rfc3339
from chassis.errors import Failed, from_proto
from protos import actions_pb2 as pb
from services.actions.failures import SuspiciousActivity
from services.actions.tests.players import Play, new_user, stamp
from services.actions.tests.serving import Actions

WAYS = ("redeem", "complete")


async def refused(
    actions: Actions, play: Play, way: str, *, completion_ms: int = 5000, at: str = ""
) -> Failed:
    """The failure of an attempt with a right proof, by its token or by its id."""
    claims = play.completion(completion_ms=completion_ms)
    if at:
        claims.timestamp = at
        claims.proof.checksum = play.checksum(completion_ms, at)
    attempt = actions.verify if way == "redeem" else actions.complete
    result: pb.VerifyResult | pb.CompleteResult = await attempt(play, claims)
    return from_proto(result.failure)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("claimed_ms", "elapsed_s", "bound", "words"),
    [
        (999, 6, ("minDurationMs", 1000), "claimed time of 999 ms is below minDurationMs, 1000 ms"),
        (300_001, 310, ("maxDurationMs", 300_000), "300001 ms is above maxDurationMs, 300000 ms"),
        (9000, 6, ("elapsedMs", None), "above the elapsed time of {} ms and 250 ms more"),
    ],
    ids=["claimed too little", "claimed too much", "ahead of the clock"],
)
async def test_times_out_of_bounds_say_which_bound_and_by_what(
    actions: Actions,
    *,
    way: str,
    claimed_ms: int,
    elapsed_s: float,
    bound: tuple[str, int | None],
    words: str,
) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(elapsed_s):
        failed = await refused(actions, play, way, completion_ms=claimed_ms)
        most_ms = clock.now_ms() - play.issued.issued_at_ms

    elapsed_ms = failed.facts["elapsedMs"]
    assert failed.code == "SUSPICIOUS_ACTIVITY"
    assert isinstance(elapsed_ms, int)
    assert elapsed_s * 1000 <= elapsed_ms <= most_ms
    assert failed.facts == {
        "bound": bound[0],
        "limitMs": bound[1] or elapsed_ms + 250,
        "claimedMs": claimed_ms,
        "elapsedMs": elapsed_ms,
    }
    assert words.format(elapsed_ms) in failed.detail
    # It is closed and reported as ever.
    assert await actions.state(play) == "refused"
    await actions.relay.send()
    (incident,) = [i for i in actions.fraud.incidents if i.action_id == play.issued.action_id]
    assert incident.rule == "time"


def test_too_short_a_time_by_the_servers_clock_is_named_as_such() -> None:
    failed = SuspiciousActivity(
        bound="minDurationMs", limit_ms=1000, claimed_ms=1000, elapsed_ms=800
    )

    assert failed.detail == "The elapsed time of 800 ms is below minDurationMs, 1000 ms."


@pytest.mark.parametrize("way", WAYS)
async def test_a_timestamp_out_of_range_says_the_servers_time_and_what_it_takes(
    actions: Actions, way: str
) -> None:
    play = await actions.issue(new_user())
    for at in (stamp(-61), stamp(20), "yesterday"):
        before_ms = clock.now_ms()
        failed = await refused(actions, play, way, at=at)
        now_ms, earliest_ms, latest_ms = (
            parse_rfc3339(str(failed.facts[name])) for name in ("serverTime", "earliest", "latest")
        )
        assert failed.code == "TIMESTAMP_OUT_OF_RANGE"
        assert before_ms <= now_ms <= clock.now_ms()
        assert (earliest_ms, latest_ms) == (now_ms - 60_000, now_ms + 5_000)


@pytest.mark.parametrize("way", WAYS)
async def test_an_expired_token_says_since_when(actions: Actions, way: str) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(331):
        failed = await refused(actions, play, way)

    assert failed.code == "TOKEN_EXPIRED"
    assert failed.facts == {"expiredAt": clock.rfc3339(play.issued.expires_at_ms)}


async def test_the_expired_token_of_a_completed_action_says_since_when(actions: Actions) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        claims = play.completion()
        completed = (await actions.complete(play, claims)).completed
    with clock.ahead(400):
        again = from_proto((await actions.complete(play, claims)).failure)

    assert again.code == "TOKEN_EXPIRED"
    assert again.facts == {"expiredAt": clock.rfc3339(completed.expires_at_ms)}


@pytest.mark.parametrize(
    ("amount", "code", "facts"),
    [
        (1001, "SCORE_OUT_OF_RANGE", {"stated": 1001, "min": 1, "max": 1000}),
        (-1, "SCORE_OUT_OF_RANGE", {"stated": -1, "min": 1, "max": 1000}),
        (51, "SCORE_MISMATCH", {"stated": 51, "expected": 50}),
    ],
)
async def test_an_amount_that_is_refused_says_what_was_expected(
    actions: Actions, amount: int, code: str, facts: dict[str, int]
) -> None:
    play = await actions.issue(new_user())
    with clock.ahead(6):
        result = await actions.verify(play, play.update(amount=amount))
    granted = await actions.grant(score_increment=amount)

    for failed in (from_proto(result.failure), from_proto(granted.failure)):
        assert (failed.code, failed.facts) == (code, facts)
        assert all(str(number) in failed.detail for number in facts.values())


@pytest.mark.parametrize(
    ("formula", "evidence", "facts"),
    [
        ("evidence_points", b'{"points":9}', {"computed": 9, "min": 10, "max": 40}),
        ("ratio", b'{"part":3,"whole":2}', {"part": 3, "min": 0, "max": 2}),
    ],
)
async def test_a_proof_beyond_its_formula_says_the_range(
    actions: Actions, type_name: str, formula: str, evidence: bytes, facts: dict[str, Any]
) -> None:
    await actions.create_type(type_name, points=0, formula=formula, points_min=10, points_max=40)
    play = await actions.issue(new_user(), type_name)
    result = await actions.verify(play, play.prove(completion_ms=0, evidence=evidence))
    failed = from_proto(result.failure)

    assert (failed.code, failed.facts) == ("SCORE_OUT_OF_RANGE", facts)


async def test_a_daily_cap_says_how_much_it_is_and_when_it_resets(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, daily_cap=1)
    _, refused = await actions.results(new_user(), type_name, type_name)
    failed = from_proto(refused.failure)
    resets_at = str(failed.facts["resetsAt"])

    assert failed.code == "DAILY_CAP_REACHED"
    assert failed.facts == {"dailyCap": 1, "resetsAt": resets_at}
    assert resets_at.endswith("T00:00:00.000Z")
    assert 0 < parse_rfc3339(resets_at) - clock.now_ms() <= failed.retry_after_s * 1000


async def test_too_many_open_tokens_say_how_many_may_be(actions: Actions, type_name: str) -> None:
    await actions.create_type(type_name, max_open=2)
    user = new_user()

    own = (await actions.results(user, *[type_name] * 3))[-1]
    shared = (await actions.results(user, *["WIN_GAME"] * 4))[-1]

    assert [from_proto(one.failure).facts for one in (own, shared)] == [
        {"maxOpen": 2},
        {"maxOpen": 3},
    ]
