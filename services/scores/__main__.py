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
from services.scores.awards.incident_store import Incidents
from services.scores.awards.incidents import Findings
from services.scores.awards.journal import Journal
from services.scores.awards.pipeline import Awards
from services.scores.awards.publish import Telling
from services.scores.awards.relay import Relay
from services.scores.awards.reversals import Reversals
from services.scores.awards.sanctions import Sanctions, since
from services.scores.awards.store import Ledger
from services.scores.awards.write import Breaker, Writer
from services.scores.boards.events import Events
from services.scores.boards.names import Names
from services.scores.boards.places import Boards
from services.scores.boards.registry import Registry
from services.scores.boards.store import Standings
from services.scores.periods.closer import Closer
from services.scores.periods.final_store import Finals
from services.scores.periods.final_tables import ClosedReads
from services.scores.periods.seals import Seals
from services.scores.periods.store import Closing
from services.scores.reads.cache import Cache
from services.scores.reads.calls import BoardCalls
from services.scores.reads.cursors import Cursors
from services.scores.reads.degraded import Fallback
from services.scores.reads.history import History
from services.scores.reads.live import Live
from services.scores.reads.reading import Reads
from services.scores.reads.store import Snapshots
from services.scores.service import ScoresService
from services.scores.settings import Settings
from services.scores.upkeep import commands
from services.scores.upkeep.auditor import Auditor
from services.scores.upkeep.filling import Filling
from services.scores.upkeep.rebuild import Rebuild

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
