"""Tests of daily caps: per type and UTC day, by the service's clock."""

from datetime import UTC, datetime, timedelta

import asyncpg

from chassis import clock
from chassis.testing import Certificates
from services.actions.tests.players import new_user
from services.actions.tests.serving import Actions, codes, open_actions


async def test_a_daily_cap_counts_requests_until_midnight_utc(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, daily_cap=2, max_open=10)
    user, other = new_user(), new_user()
    now = clock.now()
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)

    with clock.ahead((midnight - now).total_seconds() - 30):
        late = await actions.results(user, type_name, type_name, type_name)
        again = await actions.results(user, type_name)
        others = await actions.results(other, type_name)
        free = await actions.results(user, "WIN_GAME")
    with clock.ahead((midnight - now).total_seconds() + 0.01):
        early = await actions.results(user, type_name, type_name, type_name)

    assert codes(late) == ["issued", "issued", "DAILY_CAP_REACHED"]
    assert codes(again) == ["DAILY_CAP_REACHED"]
    assert 20 <= again[0].failure.retry_after_s <= 30
    assert codes(others) == codes(free) == ["issued"]
    assert codes(early) == ["issued", "issued", "DAILY_CAP_REACHED"]


async def test_a_day_is_counted_by_the_services_clock_on_every_replica(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    await actions.create_type(type_name, daily_cap=3, max_open=100, token_ttl_s=90_000)
    user = new_user()
    now = clock.now()
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    to_midnight_s = (midnight - now).total_seconds()

    async with open_actions(pool, certificates) as other:
        days = []
        for day in range(3):
            found = []
            # Before and after noon, and as late as the day has it.
            for ahead_s in (1, 50_000, 86_390):
                with clock.ahead(to_midnight_s + day * 86_400 + ahead_s):
                    for replica in (actions, other):
                        found += codes(await replica.results(user, type_name))
            days.append(found)

    assert days == [["issued"] * 3 + ["DAILY_CAP_REACHED"] * 3] * 3


async def test_caps_of_two_types_are_counted_apart(actions: Actions, type_name: str) -> None:
    other_name = f"{type_name}_2"
    for name in (type_name, other_name):
        await actions.create_type(name, daily_cap=1, max_open=10)

    user = new_user()
    together = await actions.results(user, *[type_name] * 2, "WIN_GAME")
    apart = await actions.results(user, *[type_name, other_name] * 2)

    assert codes(together) == ["issued", "DAILY_CAP_REACHED", "issued"]
    assert codes(apart) == ["DAILY_CAP_REACHED", "issued"] + ["DAILY_CAP_REACHED"] * 2


async def test_a_changed_cap_counts_from_the_next_request_on(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, daily_cap=2, max_open=10)
    user = new_user()
    await actions.results(user, type_name, type_name)

    await actions.change_type(type_name, daily_cap=3)
    raised = await actions.results(user, type_name, type_name)
    await actions.change_type(type_name, daily_cap=1)
    lowered = await actions.results(user, type_name)
    await actions.change_type(type_name, daily_cap=None)
    uncapped = await actions.results(user, type_name, type_name)

    assert codes(raised) == ["issued", "DAILY_CAP_REACHED"]
    assert codes(lowered) == ["DAILY_CAP_REACHED"]
    assert codes(uncapped) == ["issued"] * 2


async def test_a_settled_action_still_counts_for_the_day_but_a_refused_request_does_not(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, daily_cap=2, max_open=1)
    user = new_user()

    first = await actions.issue(user, type_name)
    pending = await actions.results(user, type_name)
    await actions.settle(first, awarded=True)
    await actions.settle(await actions.issue(user, type_name), awarded=True)

    assert codes(pending) == ["TOO_MANY_PENDING"]
    assert codes(await actions.results(user, type_name)) == ["DAILY_CAP_REACHED"]


async def test_limits_off_lifts_daily_caps_but_not_open_tokens(
    pool: asyncpg.Pool, certificates: Certificates, type_name: str
) -> None:
    async with open_actions(pool, certificates, capped=False) as actions:
        await actions.create_type(type_name, daily_cap=1, max_open=10)
        user = new_user()

        assert codes(await actions.results(user, *[type_name] * 3)) == ["issued"] * 3
        assert codes(await actions.results(user, *["WIN_GAME"] * 4))[3] == "TOO_MANY_PENDING"
