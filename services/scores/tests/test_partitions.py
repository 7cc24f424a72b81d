"""The ledger's partitions: made ahead, and at the last moment where they were not."""

from datetime import timedelta

import structlog

from chassis import clock
from chassis.ids import uuid7
from services.scores.tests.conftest import Scores, item


async def _partitions(scores: Scores) -> set[str]:
    rows = await scores.pool.fetch(
        "SELECT c.relname AS name FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
        " WHERE inhparent = 'scores.ledger'::regclass"
    )
    return {row["name"] for row in rows}


async def test_the_job_makes_the_months_ahead(scores: Scores) -> None:
    await scores.awards.ledger.make_partitions()
    before = await _partitions(scores)
    assert f"ledger_{clock.now() + timedelta(days=80):%Y%m}" in before
    with clock.ahead(3600 * 24 * 3650):
        await scores.awards.ledger.make_partitions()
        made = await _partitions(scores) - before
        assert f"ledger_{clock.now():%Y%m}" in made
        assert len(made) == 5  # the month before, the present one, three to come
        await scores.awards.ledger.make_partitions()
    assert await _partitions(scores) == before | made


async def test_an_award_without_its_months_partition_makes_it_and_raises_an_alarm(
    scores: Scores,
) -> None:
    with clock.ahead(3600 * 24 * 3650 * 2), structlog.testing.capture_logs() as logs:
        assert f"ledger_{clock.now():%Y%m}" not in await _partitions(scores)
        await scores.registry.refresh()

        (award,) = await scores.award(item(user := uuid7(), 50))

        assert (award.user_id, award.new_score) == (user, 50)
        assert f"ledger_{clock.now():%Y%m}" in await _partitions(scores)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["partition_missing"]
