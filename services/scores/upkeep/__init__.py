"""What keeps the boards in Redis equal to the ledger, and makes new ones.

Read `rebuild.py` (boards that Redis lost), `filling.py` (boards that an admin adds), `auditor.py`
(boards and totals that were changed from outside), and `commands.py` (what operators run).
`redis_boards.py` with its scripts is what they do in Redis, `store.py` the SQL.
"""

from chassis.postgres import Database
from chassis.process import together
from chassis.redis import Redis
from chassis.redis.lease import Lease
from services.scores.boards import Boards
from services.scores.upkeep.auditor import Auditor
from services.scores.upkeep.filling import Filling
from services.scores.upkeep.rebuild import Rebuild
from services.scores.upkeep.redis_boards import RedisBoards
from services.scores.upkeep.store import UpkeepStore

AUDIT_PAUSE_S = 1.0


class Upkeep:
    """The room, composed."""

    def __init__(self, boards: Boards, database: Database, redis: Redis) -> None:
        self._redis = redis
        self.store = UpkeepStore(database)
        self.redis_boards = RedisBoards(redis)
        self.rebuild = Rebuild(redis, boards, self.redis_boards, self.store)
        self.filling = Filling(redis, boards, self.store, self.rebuild)
        self.auditor = Auditor(boards, self.redis_boards, self.store)

    async def run(self) -> None:
        """The work in the background, forever."""
        auditing = Lease(self._redis, "lease:scores:auditor")
        await together(
            self.rebuild.run(),
            self.filling.run(),
            auditing.run(self.auditor.work, pause_s=AUDIT_PAUSE_S),
        )
