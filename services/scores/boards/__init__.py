"""The boards: what they are, where they lie in Redis, and who stands where.

Read `rules.py` (a board, its periods), `keys.py` (keys and bytes in Redis; ties among equal
scores), `registry.py` (the boards there are), then `places.py` and `apply.lua` (players put where
they stand) and `events.py` (the stream of changes). `ranking.py` has what every read returns,
`names.py` the names, `changes.py` what moves a board, `store.py` the SQL.
"""

from chassis.postgres import Database
from chassis.redis import Redis
from chassis.redis.stream import Bound
from services.scores.boards.events import Events
from services.scores.boards.names import Names
from services.scores.boards.places import Places
from services.scores.boards.registry import Registry
from services.scores.boards.store import BoardStore


class Boards:
    """The room, composed; `registry.refresh` comes before anything else."""

    def __init__(self, database: Database, redis: Redis, *, events: Bound) -> None:
        """`events` bounds the stream of events."""
        self.store = BoardStore(database)
        self.registry = Registry(self.store)
        self.names = Names(redis, self.store)
        self.places = Places(redis, self.registry, self.store)
        self.events = Events(redis, self.registry, events)

    async def run(self) -> None:
        """The work in the background, forever."""
        await self.registry.follow()
