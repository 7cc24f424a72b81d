"""What is read from a replica: histories, and pages of periods closed long ago."""

from typing import Any

import asyncpg

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database
from services.scores.boards.rules import Period
from services.scores.periods.final_store import FinalStore
from services.scores.periods.final_tables import FinalTables
from services.scores.reads.store import HistoryStore
from services.scores.tests.conftest import Scores, item

ADA = uuid7()


class Counted(Database):
    """The same database, as a replica that counts its queries."""

    queries = 0

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        self.queries += 1
        return await super().fetch(sql, *arguments)


async def test_histories_are_read_from_the_replica_and_awards_written_to_the_primary(
    scores: Scores,
) -> None:
    replica = Counted(scores.pool)
    store = HistoryStore(replica)
    await scores.award(item(ADA, 50))

    rows = await store.history(ADA, before_seq=None, limit=10)

    assert [row["points"] for row in rows] == [50]
    assert replica.queries == 1


async def test_pages_of_what_was_just_closed_come_from_the_primary(scores: Scores) -> None:
    await scores.award(item(ADA, 50))
    replica = Counted(scores.pool)
    known = scores.registry.get("daily")
    present = known.at(clock.now_ms())
    assert present is not None
    try:
        with clock.ahead(24 * 3600):
            await scores.periods.closer.work(1)
            period = Period(known.board, present.start_ms, present.end_ms, closed=True)
            reads = FinalTables(FinalStore(scores.database), FinalStore(replica))
            await reads.page(period, 10, None)
            assert replica.queries == 0
            with clock.ahead(3600):
                page = await reads.page(period, 10, None)
            assert [entry.score for entry in page.entries] == [50]
            assert replica.queries == 1
    finally:
        await scores.admin.execute("DELETE FROM scores.periods WHERE board <> 'all_time'")
        await scores.registry.refresh()
