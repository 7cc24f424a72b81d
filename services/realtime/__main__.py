"""Realtime: what changed, sent to every gateway at once and in order. Start reading here."""

from functools import partial

from chassis.process import run
from chassis.redis import open_redis
from chassis.rpc.client import open_channel
from chassis.rpc.server import serve
from chassis.rpc.tls import open_identity
from protos.arrows import callers
from protos.realtime_pb2_grpc import add_RealtimeServicer_to_server
from protos.scores_pb2_grpc import ScoresStub
from services.realtime.live import live
from services.realtime.service import RealtimeService
from services.realtime.settings import Settings
from services.realtime.source import Source


async def main(settings: Settings) -> None:
    # Opened top to bottom, closed bottom to top, once `serve` has drained.
    async with (
        open_identity(settings) as identity,
        open_redis(settings.redis_url) as redis,
        open_channel(settings.scores_target, unit="scores", identity=identity) as scores,
        live(redis, Source(ScoresStub(scores)), history=settings.history) as (
            channels,
            users,
            boards,
        ),
    ):
        service = RealtimeService(channels, users, boards)
        await serve(
            partial(add_RealtimeServicer_to_server, service),
            settings=settings,
            identity=identity,
            callers=callers("realtime"),
            checks={"redis": partial(redis.check, "realtime")},
            draining=service.drain,
        )


if __name__ == "__main__":
    run("realtime", Settings, main)
