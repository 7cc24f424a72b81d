"""The award, from a token to a ledger row, its ranks and its answer; and what changes it later.

Read `pipeline.py` first, then its last steps: `write.py` (retries, breaker) and `publish.py`
(boards, event, receipt, Settle). `records.py` holds what passes through, `store.py` the SQL,
`scores.award` in the migrations the one transaction.

Beside the path: `repeats.py` (an action that has a row), `journal.py` (Postgres is unavailable),
`giving_up.py` (an action used up for nothing), `relay.py` (what a crash left in the outbox),
`incidents.py` (replayed tokens, sent to fraud), `reversals.py` (void, restore), `sanctions.py`
(players hidden and shown).
"""

from chassis.postgres import Database
from chassis.process import repeat, together
from chassis.redis import Redis
from chassis.redis.lease import Lease
from protos.actions_pb2_grpc import ActionsStub
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards.giving_up import GivingUp
from services.scores.awards.incidents import Incidents
from services.scores.awards.journal import ReplayJournal
from services.scores.awards.pipeline import AwardPipeline
from services.scores.awards.publish import Publisher
from services.scores.awards.relay import Relay
from services.scores.awards.repeats import Repeats
from services.scores.awards.reversals import Reversals
from services.scores.awards.sanctions import Sanctions
from services.scores.awards.store import LedgerStore
from services.scores.awards.write import Breaker, LedgerWriter
from services.scores.boards import Boards
from services.scores.settings import Settings

PARTITIONS_PAUSE_S = 3600
PAUSE_S = 0.5  # between two passes of work under a lease


class Awards:
    """The room, composed."""

    def __init__(
        self,
        boards: Boards,
        database: Database,
        redis: Redis,
        *,
        actions: ActionsStub,
        fraud: FraudStub,
        settings: Settings,
    ) -> None:
        self._redis = redis
        self.ledger = LedgerStore(database)
        self.publisher = Publisher(self.ledger, boards, actions)
        self.breaker = Breaker(database.ping)
        self.writer = LedgerWriter(self.ledger, self.breaker, boards.registry.refresh)
        keys, items_max = settings.journal_keys, settings.journal_max
        self.journal = ReplayJournal(redis, keys, self.writer, self.publisher, items_max=items_max)
        self.incidents = Incidents(self.ledger, fraud)
        self.repeats = Repeats(self.ledger, self.breaker)
        self.pipeline = AwardPipeline(
            actions=actions,
            fraud=fraud,
            repeats=self.repeats,
            writer=self.writer,
            journal=self.journal,
            publisher=self.publisher,
            incidents=self.incidents,
        )
        self.giving_up = GivingUp(self.ledger, self.breaker, actions)
        self.relay = Relay(self.ledger, self.publisher, after_s=settings.relay_after_s)
        self.reversals = Reversals(self.ledger, self.publisher)
        self.sanctions = Sanctions(fraud, self.ledger, self.publisher)

    async def run(self) -> None:
        """The work in the background, forever."""
        leased = {
            "relay": self.relay.work,
            "journal": self.journal.drain,
            "sanctions": self.sanctions.show_ended,
        }
        await together(
            *(
                Lease(self._redis, f"lease:scores:{name}").run(work, pause_s=PAUSE_S)
                for name, work in leased.items()
            ),
            self.sanctions.follow(self._redis),
            self.incidents.run(),
            self.breaker.follow(),
            repeat(self.ledger.make_partitions, pause_s=PARTITIONS_PAUSE_S),
        )

    async def drain(self) -> None:
        """Returns when all that follows the answers given is done."""
        await self.publisher.drain()
        await self.incidents.drain()
