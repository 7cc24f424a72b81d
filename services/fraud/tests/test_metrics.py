"""What fraud's metrics count: rules that are broken, and incidents that are reported."""

import pytest
from prometheus_client import REGISTRY

from services.fraud.tests.fraud_served import Fraud, attempt, incident, report

RULES = ("burst", "repeat", "ban", "time", "amount", "foreign", "proof", "replay", "limit", "other")


def anomalies() -> dict[str, float]:
    """By rule; all are there before their first event."""
    found = {
        rule: REGISTRY.get_sample_value("scoreboard_anomaly_events_total", {"rule": rule})
        for rule in RULES
    }
    return {rule: value for rule, value in found.items() if value is not None}


def risen(before: dict[str, float]) -> dict[str, float]:
    after = anomalies()
    assert after.keys() == before.keys() == set(RULES)
    return {rule: after[rule] - before[rule] for rule in RULES if after[rule] != before[rule]}


async def test_a_burst_is_one_event_for_each_action_that_is_flagged(
    fraud: Fraud, user: str
) -> None:
    before = anomalies()
    await fraud.play(user, 8)
    assert risen(before) == {}

    ninth = attempt(user)
    await fraud.judge(ninth)
    await fraud.judge(ninth)  # its verdict is fixed

    assert risen(before) == {"burst": 1}


async def test_times_out_of_bounds_are_counted_where_they_are_reported(
    fraud: Fraud, user: str
) -> None:
    before = anomalies()

    await fraud.judge(attempt(user, refusal="SUSPICIOUS_ACTIVITY"))
    assert risen(before) == {}
    await report(fraud, incident(user))

    assert risen(before) == {"time": 1}


@pytest.mark.parametrize("rule", ["time", "amount", "foreign", "proof", "replay", "limit"])
async def test_an_incident_is_counted_once_however_often_it_is_reported(
    fraud: Fraud, user: str, rule: str
) -> None:
    before, found = anomalies(), incident(user, rule)

    await report(fraud, found, found)
    await report(fraud, found)

    assert risen(before) == {rule: 1}


async def test_incidents_of_rules_that_are_not_listed_share_a_label(
    fraud: Fraud, user: str
) -> None:
    before = anomalies()

    await report(fraud, incident(user, "brand_new"), incident(user, "newer_still"))

    assert risen(before) == {"other": 2}


def test_every_decision_is_there_before_its_first_event() -> None:
    for decision in ("allow", "flag", "reject", "ban"):
        labels = {"decision": decision}
        assert REGISTRY.get_sample_value("fraud_verdicts_total", labels) is not None
