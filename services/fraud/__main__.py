"""Fraud: verdicts over attempts, sanctions over players. Start reading here."""

from functools import partial
from pathlib import Path

from chassis.postgres import expect_schema, open_database
from chassis.process import background, run
from chassis.redis import open_redis
from chassis.redis.stream import StreamWriter
from chassis.rpc.client import open_channel
from chassis.rpc.server import serve
from chassis.rpc.tls import open_identity
from protos.arrows import callers
from protos.auth_pb2_grpc import AuthStub
from protos.fraud_pb2_grpc import add_FraudServicer_to_server
from protos.scores_pb2_grpc import ScoresStub
from protos.streams import SANCTIONS
from services.fraud.follower import Follower
from services.fraud.sanctions import SanctionCache, open_relay, publish, send_bans
from services.fraud.sanctions_store import SanctionStore
from services.fraud.service import FraudService
from services.fraud.settings import Settings
from services.fraud.store import FraudStore
from services.fraud.windows import Windows

MIGRATIONS = Path(__file__).parent / "migrations"


async def main(settings: Settings) -> None:
    # Opened top to bottom, closed bottom to top, once `serve` has drained.
    async with (
        open_identity(settings) as identity,
        open_database(
            settings.database_url, connections_max=settings.database_pool_max
        ) as database,
        open_redis(settings.redis_url) as redis,
        open_channel(settings.auth_target, unit="auth", identity=identity) as auth,
        open_channel(settings.scores_target, unit="scores", identity=identity) as scores,
    ):
        await expect_schema(database, schema="fraud", folder=MIGRATIONS)
        fraud_store, store = FraudStore(database), SanctionStore(database)
        sanctions = SanctionCache(store)
        await sanctions.refresh()
        writer = StreamWriter(redis, SANCTIONS, settings.published_sanctions)
        deliver = partial(publish, redis, writer, store)
        stream = open_relay(store, target="stream", deliver=deliver)
        bans = open_relay(store, target="auth", deliver=partial(send_bans, AuthStub(auth)))
        service = FraudService(
            fraud_store,
            store,
            Windows(redis, limited=settings.limits == "default"),
            sanctions,
            relays=(stream, bans),
        )
        follower = Follower(fraud_store, redis, ScoresStub(scores))
        async with background(sanctions.follow(), stream.run(), bans.run(), follower.run()):
            await serve(
                partial(add_FraudServicer_to_server, service),
                settings=settings,
                identity=identity,
                callers=callers("fraud"),
                checks={"postgres": database.ping, "redis": partial(redis.check, "fraud")},
            )


if __name__ == "__main__":
    run("fraud", Settings, main)
