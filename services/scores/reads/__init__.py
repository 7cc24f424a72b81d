"""Reads of boards and of a player's own ledger.

Read `calls.py` (requests checked and rendered, with `answers.py` and `cursors.py`), then
`board_reads.py` (which store serves a read) and the stores: `cache.py` (this process's memory),
`live.py` with its scripts (Redis), `degraded.py` (Postgres while Redis cannot serve), and the final
tables of the room `periods`. `changes.py` is the ledger for readers that lost events. `store.py`
has the SQL.
"""

from chassis.keyring import Keyring
from chassis.postgres import Database
from chassis.postgres.replica import Reader
from chassis.process import repeat, together
from chassis.redis import Redis
from services.scores.boards import Boards
from services.scores.periods import Periods
from services.scores.reads.board_reads import BoardReads
from services.scores.reads.cache import Cache
from services.scores.reads.calls import ReadCalls
from services.scores.reads.changes import Changes
from services.scores.reads.cursors import Cursors
from services.scores.reads.degraded import DegradedReads
from services.scores.reads.live import LiveReads
from services.scores.reads.store import ChangesStore, HistoryStore, SnapshotStore

WARM_PAUSE_S = 30


class Reads:
    """The room, composed. `reader` may be some seconds old."""

    def __init__(
        self,
        boards: Boards,
        periods: Periods,
        database: Database,
        redis: Redis,
        *,
        reader: Reader,
        cursor_keys: Keyring,
    ) -> None:
        self.cache = Cache(redis)
        self.degraded = DegradedReads(SnapshotStore(database), boards.store)
        self.boards = BoardReads(
            boards.registry,
            LiveReads(redis, boards.names),
            periods.final_tables,
            self.degraded,
            self.cache,
        )
        # From the primary: a replica may lack what the stream has published and lost.
        self.changes = Changes(ChangesStore(database))
        self.calls = ReadCalls(
            boards.registry, self.boards, HistoryStore(reader), Cursors(cursor_keys)
        )

    async def run(self) -> None:
        """The work in the background, forever."""
        await together(self.cache.follow(), repeat(self.boards.warm, pause_s=WARM_PAUSE_S))
