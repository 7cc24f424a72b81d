"""Scores: the ledger of awards and the boards that rank them. Start reading here."""

import sys
from functools import partial
from pathlib import Path

from chassis.client import open_channel
from chassis.lease import Lease
from chassis.postgres import Database, expect_schema, open_pool
from chassis.process import background, repeat, run, until_done
from chassis.redis import open_redis
from chassis.replica import open_reader
from chassis.server import serve
from chassis.tls import Identity
from protos.actions_pb2_grpc import ActionsStub
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2_grpc import add_ScoresServicer_to_server
from services.scores import commands
from services.scores.auditor import Auditor
from services.scores.awards import Awards
from services.scores.board_calls import BoardCalls
from services.scores.boards import Boards
from services.scores.cache import Cache
from services.scores.closed import ClosedReads
from services.scores.closer import Closer
from services.scores.cursors import Cursors
from services.scores.events import Events
from services.scores.fallback import Fallback
from services.scores.filling import Filling
from services.scores.findings import Findings
from services.scores.history import History
from services.scores.journal import Journal
from services.scores.live import Live
from services.scores.names import Names
from services.scores.reading import Reads
from services.scores.rebuild import Rebuild
from services.scores.registry import Registry
from services.scores.relay import Relay
from services.scores.reversals import Reversals
from services.scores.sanctions import Sanctions, since
from services.scores.seals import Seals
from services.scores.service import ScoresService
from services.scores.settings import Settings
from services.scores.store.closing import Closing
from services.scores.store.finals import Finals
from services.scores.store.incidents import Incidents
from services.scores.store.ledger import Ledger
from services.scores.store.snapshots import Snapshots
from services.scores.store.standings import Standings
from services.scores.telling import Telling
from services.scores.writing import Breaker, Writer

MIGRATIONS = Path(__file__).parent / "migrations"
PARTITIONS_PAUSE_S = 3600
WARM_PAUSE_S = 30
SETTLED_S = 5.0  # for boards to be complete before the first call; longer ones are served degraded


async def main(settings: Settings) -> None:
    identity = Identity.read(settings.tls_dir)
    # Opened top to bottom; closed bottom to top, once `serve` has drained.
    async with (
        open_pool(settings.database_url, size_max=settings.database_pool_max) as pool,
        open_reader(
            database := Database(pool),
            settings.database_replica_url,
            lag_max_s=settings.replica_lag_max_s,
        ) as reader,
        open_redis(settings.redis_url) as redis,
        open_channel(settings.actions_target, unit="actions", identity=identity) as actions,
        open_channel(settings.fraud_target, unit="fraud", identity=identity) as fraud,
    ):
        await expect_schema(pool, schema="scores", folder=MIGRATIONS)
        standings = Standings(database)
        registry = Registry(standings)
        await registry.refresh()
        ledger = Ledger(database, registry.refresh, reader=reader)
        boards = Boards(redis, registry, ledger.names, standings)
        events = Events(redis, registry)
        cache = Cache(redis)
        reads = Reads(
            registry,
            Live(redis, Names(redis, ledger.names)),
            ClosedReads(Finals(database), Finals(reader)),
            Fallback(Snapshots(database), standings),
            cache,
        )
        to_actions, to_fraud = ActionsStub(actions), FraudStub(fraud)
        telling = Telling(ledger, standings, boards, events, actions=to_actions)
        journal = Journal(
            redis, settings.journal_keys, ledger, telling, items_max=settings.journal_max
        )
        breaker = Breaker(database.ping)
        findings = Findings(Incidents(database), to_fraud)
        awards = Awards(
            ledger,
            Writer(ledger, journal, breaker),
            telling,
            findings,
            actions=to_actions,
            fraud=to_fraud,
        )
        sanctions = Sanctions(since(to_fraud), ledger, telling)
        relay = Relay(ledger, telling, after_s=settings.relay_after_s)
        rebuild = Rebuild(redis, boards, registry, standings)
        filling = Filling(redis, registry, standings, rebuild)
        auditor = Auditor(boards, registry, standings)
        closer = Closer(Closing(database, Seals(settings.seal_keys)), events)
        cursors = Cursors(settings.cursor_keys)
        service = ScoresService(
            awards,
            History(ledger, cursors),
            Reversals(ledger, telling),
            BoardCalls(registry, reads, cursors),
            filling,
        )
        await journal.warn_unless_persistent()
        await until_done(sanctions.catch_up)
        async with background(
            Lease(redis, "lease:scores:relay").run(relay.work, pause_s=0.5),
            Lease(redis, "lease:scores:closer").run(closer.work, pause_s=0.5),
            Lease(redis, "lease:scores:journal").run(journal.drain, pause_s=0.5),
            Lease(redis, "lease:scores:sanctions").run(sanctions.lift, pause_s=0.5),
            sanctions.follow(redis),
            findings.run(),
            breaker.follow(),
            repeat(ledger.make_partitions, pause_s=PARTITIONS_PAUSE_S),
            registry.follow(),
            cache.follow(),
            repeat(reads.warm, pause_s=WARM_PAUSE_S),
            rebuild.run(),
            Lease(redis, "lease:scores:auditor").run(auditor.work, pause_s=1),
            filling.run(),
        ):
            await rebuild.settled(wait_s=SETTLED_S)
            await serve(
                partial(add_ScoresServicer_to_server, service),
                settings=settings,
                callers=callers("scores"),
                checks={"postgres": database.ping, "redis": redis.ping},
            )
        await telling.drain()
        await findings.drain()


if __name__ == "__main__":
    if sys.argv[1:]:
        text, code = commands.run(sys.argv[1:])
        sys.stdout.write(f"{text}\n")
        sys.exit(code)
    run("scores", Settings, main)
