"""What Report keeps: each incident once, a case for the grave ones."""

import msgspec
import pytest

from chassis.errors import Failed
from chassis.ids import uuid7
from services.fraud.tests.fraud_served import Fraud, incident, report


async def test_an_incident_reported_twice_is_one_incident_and_one_case(
    fraud: Fraud, user: str
) -> None:
    found = incident(user)

    await report(fraud, found, found)
    await report(fraud, found)

    assert await _incidents(fraud, user) == ["time"]
    (case,) = await fraud.cases(user)
    assert (case["rule"], case["source_id"]) == ("time", found.incident_id)
    (reason,) = msgspec.json.decode(case["reasons"])
    assert (reason["observed"], reason["threshold"]) == (100, 1000)
    assert reason["evidence"] == [found.action_id]


async def test_another_ones_token_opens_a_case_for_both(fraud: Fraud, user: str) -> None:
    other = uuid7()

    await report(fraud, incident(user, "foreign", other=other))

    assert [case["rule"] for case in await fraud.cases(user)] == ["foreign"]
    assert [case["rule"] for case in await fraud.cases(other)] == ["foreign"]


async def test_limit_trips_and_wrong_proofs_are_kept_without_a_case(
    fraud: Fraud, user: str
) -> None:
    trip = incident(user, "limit")
    trip.action_id = ""

    await report(fraud, trip, incident(user, "proof"), incident(user, "replay"))

    assert sorted(await _incidents(fraud, user)) == ["limit", "proof", "replay"]
    assert await fraud.cases(user) == []


async def test_an_incident_that_cannot_be_stored_does_not_hold_up_others(
    fraud: Fraud, user: str
) -> None:
    await report(fraud, incident("not a player"), incident(user))

    assert await _incidents(fraud, user) == ["time"]


async def test_a_report_of_more_than_256_incidents_is_refused(fraud: Fraud, user: str) -> None:
    with pytest.raises(Failed) as caught:
        await report(fraud, *(incident(user) for _ in range(257)))
    assert caught.value.code == "BATCH_TOO_LARGE"
    assert await _incidents(fraud, user) == []


async def _incidents(fraud: Fraud, user: str) -> list[str]:
    rows = await fraud.pool.fetch("SELECT rule FROM fraud.incidents WHERE user_id = $1", user)
    return [row["rule"] for row in rows]
