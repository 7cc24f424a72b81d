"""Periods that ended: their final tables are frozen, sealed, published, and read ever after.

Read `closer.py` (when and in which order), `store.py` (the SQL of closing; hash, signature, and how
the ledger proves a table), then `final_tables.py` (reads) with `final_store.py` (their SQL).
"""

from chassis.keyring import Keyring
from chassis.postgres import Database
from chassis.postgres.replica import Reader
from chassis.redis import Redis
from chassis.redis.lease import Lease
from services.scores.boards import Boards
from services.scores.periods.closer import Closer, periods_closed
from services.scores.periods.final_store import FinalStore
from services.scores.periods.final_tables import FinalTables
from services.scores.periods.store import ClosingStore

PAUSE_S = 0.5


class Periods:
    """The room, composed. `reader` may be some seconds old."""

    def __init__(
        self,
        boards: Boards,
        database: Database,
        redis: Redis,
        *,
        reader: Reader,
        seal_keys: Keyring,
    ) -> None:
        self._redis = redis
        self._boards = boards
        self.store = ClosingStore(database, seal_keys)
        self.closer = Closer(self.store, boards.events)
        self.final_tables = FinalTables(FinalStore(database), FinalStore(reader))

    async def run(self) -> None:
        """The work in the background, forever."""
        for known in self._boards.registry.listed():
            # There before its first event, which else has no rate.
            periods_closed.labels(known.board.name)
        await Lease(self._redis, "lease:scores:closer").run(self.closer.work, pause_s=PAUSE_S)
