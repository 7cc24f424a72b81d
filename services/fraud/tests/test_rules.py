"""The rules' edges, to the millisecond."""

import pytest

from chassis.ids import uuid7
from services.fraud import rules
from services.fraud.evaluations import Attempt, Evaluation, Kind, Record, Sanction, decide
from services.fraud.rules import Burst, Repeat

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize(("age_ms", "found"), [(9_999, True), (10_000, False)])
def test_an_action_is_in_the_window_for_less_than_ten_seconds(age_ms: int, found: bool) -> None:
    judged = [("old", NOW_MS - age_ms), *((f"action {n}", NOW_MS) for n in range(8))]

    reason = rules.reason(Burst(tuple(judged), NOW_MS))

    assert (reason is not None) == found


def test_only_distinct_actions_make_a_burst() -> None:
    judged = [(f"action {n % 8}", NOW_MS) for n in range(20)]
    assert rules.reason(Burst(tuple(judged), NOW_MS)) is None


@pytest.mark.parametrize(("age_ms", "found"), [(DAY_MS - 1, True), (DAY_MS, False)])
def test_a_burst_is_remembered_for_less_than_a_day(age_ms: int, found: bool) -> None:
    strikes = (("first", NOW_MS - age_ms), ("second", NOW_MS - 70_000), ("third", NOW_MS))

    reason = rules.reason(Repeat(strikes, NOW_MS))

    assert (reason is not None) == found


@pytest.mark.parametrize(("pause_ms", "counts"), [(59_999, False), (60_000, True)])
def test_a_burst_counts_a_minute_after_the_one_before(pause_ms: int, counts: bool) -> None:
    assert rules.new_episode([NOW_MS - 3_600_000, NOW_MS - pause_ms], NOW_MS) == counts
    assert rules.new_episode([], NOW_MS)


@pytest.mark.parametrize(
    ("present", "strikes", "expected"),
    [
        (Kind.NONE, 0, Kind.FLAGGED),
        (Kind.FLAGGED, 0, Kind.FLAGGED),
        (Kind.QUARANTINED, 0, None),
        (Kind.QUARANTINED, 2, Kind.BANNED),
    ],
)
def test_a_burst_replaces_no_severer_sanction(
    present: Kind, strikes: int, expected: Kind | None
) -> None:
    user, at_ms = uuid7(), NOW_MS
    burst = Burst(tuple((uuid7(), at_ms) for _ in range(9)), at_ms)
    attempt = Attempt(uuid7(), uuid7(), user, accepted=True)
    earlier = [(uuid7(), at_ms - (n + 1) * 60_000) for n in range(strikes)]
    record = Record(Sanction(user, present, 1, 0), earlier)

    found = decide(Evaluation(attempt, False, (burst,)), record, at_ms=at_ms)

    assert (found.kind, found.strike) == (expected, True)
