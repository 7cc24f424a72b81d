"""Gateway: the edge, REST and live. Start reading here, then in `routes.py`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from chassis.ids import uuid7
from chassis.process import background, repeat, run, until_done
from chassis.redis import open_redis
from gateway.api.etags import Etags
from gateway.api.health import PAUSE_S, Health
from gateway.api.scores import Names
from gateway.edge.gateway import Gateway
from gateway.edge.idempotency import Idempotency
from gateway.edge.identity import Caller, Verifier
from gateway.edge.limits import Limiter
from gateway.edge.listener import serve
from gateway.edge.middleware import AccountBanned, Checks
from gateway.edge.peers import Peers
from gateway.edge.sanctions import Sanctions
from gateway.live.handler import LiveHandler
from gateway.live.hub import Hub
from gateway.routes import routes
from gateway.settings import Settings
from gateway.upstreams import Upstreams, open_upstreams
from protos.auth_pb2 import KeysRequest
from protos.fraud_pb2 import Sanction, SanctionsSinceRequest
from protos.realtime_pb2_grpc import RealtimeStub

SPREAD_S = 15.0  # over which sockets are closed on shutdown


async def main(settings: Settings) -> None:
    async with opened(settings) as gateway:
        await serve(gateway, settings=settings)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway with all it needs, warmed up: keys and sanctions are known."""
    # Opened top to bottom, closed bottom to top, once `serve` has drained.
    async with open_redis(settings.redis_url) as redis, open_upstreams(settings) as upstreams:
        verifier = _verifier(upstreams, settings)
        sanctions = _sanctions(upstreams)
        health = Health(upstreams.channels)
        hub = Hub(RealtimeStub(upstreams.channels["realtime"]), gateway_id=uuid7())
        live = _live(hub, verifier, sanctions, settings)
        peers = Peers(
            redis, heartbeat_s=settings.peers_heartbeat_s, missed_max=settings.peers_missed_max
        )
        limiter = Limiter(
            redis, peers, disabled=settings.limits == "off", batch_max=settings.batch_max
        )
        checks = Checks(
            proxies=settings.trusted_proxies,
            verifier=verifier,
            sanctions=sanctions,
            limiter=limiter,
            requests=settings.limit.requests,
            idempotency=Idempotency(redis, settings.idempotency_keys),
        )
        api = routes(
            upstreams,
            verifier=verifier,
            etags=Etags(settings.idempotency_keys),
            names=Names(upstreams.auth, batch_max=settings.batch_max),
            limits=settings.limit,
            live=live,
            health=health,
            draining=lambda: gateway.draining,
            query_token=settings.ws_query_token,
        )
        # Half of the time to drain at most, so that the last socket still has time to close.
        spread_s = min(SPREAD_S, settings.drain_s / 2)
        gateway = Gateway(api, checks, shutdown=partial(live.shutdown, spread_s))

        await asyncio.gather(until_done(verifier.fetch), until_done(sanctions.feed.catch_up))
        async with (
            background(
                verifier.follow(),
                sanctions.feed.follow(redis),
                limiter.follow(),
                repeat(health.check, pause_s=PAUSE_S),
            ),
            peers.running(),
            hub.running(),
            live.running(),
        ):
            yield gateway


def _verifier(upstreams: Upstreams, settings: Settings) -> Verifier:
    async def fetch() -> bytes:
        reply = await upstreams.auth.Keys(KeysRequest())
        return bytes(reply.jwks)

    return Verifier(fetch, issuer=settings.issuer, audience=settings.audience)


def _sanctions(upstreams: Upstreams) -> Sanctions:
    async def since(version: int) -> list[Sanction]:
        reply = await upstreams.fraud.SanctionsSince(SanctionsSinceRequest(version=version))
        return list(reply.sanctions)

    return Sanctions(since)


def _live(hub: Hub, verifier: Verifier, sanctions: Sanctions, settings: Settings) -> LiveHandler:
    def verify(token: str) -> Caller:
        identity = verifier.verify(token)
        if sanctions.banned(identity.user_id):
            raise AccountBanned
        return identity

    live = LiveHandler(
        hub,
        verify=verify,
        allowed_origins=settings.allowed_origins,
        limits=settings.live.disabled() if settings.limits == "off" else settings.live,
    )

    def revoke(sanction: Sanction) -> None:
        if sanction.kind == Sanction.BANNED:
            live.revoke(sanction.user_id)

    sanctions.listen(revoke)
    return live


if __name__ == "__main__":
    run("gateway", Settings, main)
