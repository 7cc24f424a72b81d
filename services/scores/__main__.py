"""Scores: the ledger of awards and the boards that rank them. Start reading here."""

import sys
from functools import partial
from pathlib import Path

from chassis.postgres import expect_schema, open_database
from chassis.postgres.replica import open_reader
from chassis.process import background, repeat, run, until_done
from chassis.redis import open_redis
from chassis.redis.memory import MemoryMeter
from chassis.rpc.client import open_channel
from chassis.rpc.server import serve
from chassis.rpc.tls import Identity
from protos.actions_pb2_grpc import ActionsStub
from protos.arrows import callers
from protos.fraud_pb2_grpc import FraudStub
from protos.scores_pb2_grpc import add_ScoresServicer_to_server
from services.scores.awards import Awards
from services.scores.boards import Boards
from services.scores.periods import Periods
from services.scores.reads import Reads
from services.scores.service import ScoresService
from services.scores.settings import Settings
from services.scores.upkeep import Upkeep, commands

MIGRATIONS = Path(__file__).parent / "migrations"
MEMORY_PAUSE_S = 10.0  # between two measurements of Redis
COMPLETE_S = 5.0  # for boards to be complete before the first call; longer: served degraded


async def main(settings: Settings) -> None:
    identity = Identity.read(settings.tls_dir)
    # Opened top to bottom; closed bottom to top, once `serve` has drained.
    async with (
        open_database(
            settings.database_url, connections_max=settings.database_pool_max
        ) as database,
        open_reader(
            database, settings.database_replica_url, lag_max_s=settings.replica_lag_max_s
        ) as reader,
        open_redis(settings.redis_url) as redis,
        open_channel(settings.actions_target, unit="actions", identity=identity) as actions,
        open_channel(settings.fraud_target, unit="fraud", identity=identity) as fraud,
    ):
        await expect_schema(database, schema="scores", folder=MIGRATIONS)
        boards = Boards(database, redis, events=settings.events)
        awards = Awards(
            boards,
            database,
            redis,
            actions=ActionsStub(actions),
            fraud=FraudStub(fraud),
            settings=settings,
        )
        periods = Periods(boards, database, redis, reader=reader, seal_keys=settings.seal_keys)
        reads = Reads(
            boards, periods, database, redis, reader=reader, cursor_keys=settings.cursor_keys
        )
        upkeep = Upkeep(boards, database, redis)
        await boards.registry.refresh()
        await awards.journal.warn_unless_persistent()
        await until_done(awards.sanctions.catch_up)
        rooms = (boards, awards, periods, reads, upkeep)
        memory = repeat(MemoryMeter(redis).measure, pause_s=MEMORY_PAUSE_S)
        async with background(memory, *(room.run() for room in rooms)):
            await upkeep.rebuild.settled(wait_s=COMPLETE_S)
            await serve(
                partial(add_ScoresServicer_to_server, ScoresService(awards, reads, upkeep)),
                settings=settings,
                callers=callers("scores"),
                checks={"postgres": database.ping, "redis": partial(redis.check, "scores")},
            )
        await awards.drain()


if __name__ == "__main__":
    if sys.argv[1:]:
        text, code = commands.run(sys.argv[1:])
        sys.stdout.write(f"{text}\n")
        sys.exit(code)
    run("scores", Settings, main)
