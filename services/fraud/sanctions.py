"""The sanctions in memory, and how they are published: to the stream, bans to auth."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.postgres import DbUnavailable
from chassis.postgres.outbox import OutboxRelay
from chassis.redis import Redis
from chassis.redis.stream import StreamWriter
from chassis.telemetry import log
from protos import auth_pb2, events_pb2, fraud_pb2
from protos.auth_pb2_grpc import AuthStub
from services.fraud.evaluations import Kind, Sanction
from services.fraud.sanctions_store import Delivery, SanctionStore
from services.fraud.windows import VERDICT_KEPT_MS

GENERATION = "{fraud}:generation"  # missing once Redis has lost its data
REFRESH_S = 0.25  # after which a replica has the sanctions of another
RELAY_S = 0.5  # between two looks at the outbox without a wake-up
SET_BAN_TIMEOUT_S = 2.0

Deliver = Callable[[Sequence[Delivery]], Awaitable[Iterable[int]]]


class SanctionCache:
    """The sanctions of all players in memory; those of other replicas after 0.25 s."""

    def __init__(self, store: SanctionStore) -> None:
        self._store = store
        self._latest: dict[str, Sanction] = {}
        self._version = 0

    def of(self, user_id: str) -> Sanction | None:
        """The player's sanction, if one is in force now."""
        sanction = self._latest.get(user_id)
        return sanction if sanction and sanction.in_force(clock.now_ms()) else None

    def was_sanctioned(self, user_id: str) -> bool:
        """Whether one was in force within the time for which verdicts are fixed."""
        sanction = self._latest.get(user_id)
        return sanction is not None and sanction.in_force(clock.now_ms() - VERDICT_KEPT_MS)

    def add(self, sanction: Sanction) -> None:
        """Caches a sanction, unless a newer one of its player is cached."""
        known = self._latest.get(sanction.user_id)
        if known is None or known.version < sanction.version:
            self._latest[sanction.user_id] = sanction

    async def refresh(self) -> None:
        """Caches what is new in the store. Raises DbUnavailable."""
        while found := await self._store.since(self._version):
            for sanction in found:
                self.add(sanction)
            self._version = found[-1].version

    async def follow(self) -> None:
        """Refreshes, forever."""
        while True:
            try:
                await self.refresh()
            except DbUnavailable as error:
                log.warning("sanctions_not_refreshed", error=repr(error))
            await asyncio.sleep(REFRESH_S)


def open_relay(
    store: SanctionStore, *, target: str, deliver: Deliver, pause_s: float = RELAY_S
) -> OutboxRelay:
    """A relay that sends one target's deliveries until each is acknowledged. Any number may run.

    `deliver` returns the versions that were acknowledged; it may raise.
    """

    async def send() -> int:
        acknowledged = list(await deliver(await store.claim(target)))
        if acknowledged:
            await store.acknowledge(target, acknowledged)
        return len(acknowledged)

    return OutboxRelay(f"sanctions:{target}", send, pause_s=pause_s, pause_max_s=pause_s)


async def publish(
    redis: Redis, stream: StreamWriter, store: SanctionStore, due: Sequence[Delivery]
) -> list[int]:
    """Appends one entry to the stream of sanctions; everything again after Redis lost its data.

    Raises DbUnavailable, and what UNAVAILABLE lists.
    """
    if not await redis.exists(GENERATION):
        # Due before the key is set, so that a crash between the two repeats it.
        await store.deliver_again("stream")
        await redis.set(GENERATION, uuid7())
    if not due:
        return []
    sanctions = [to_proto(delivery.sanction) for delivery in due]
    batch = events_pb2.SanctionEvents(sanctions=sanctions).SerializeToString()
    await stream.append(batch)
    versions = [sanction.version for sanction in sanctions]
    log.info("sanctions_published", versions=versions)
    return versions


async def send_bans(auth: AuthStub, due: Sequence[Delivery]) -> list[int]:
    """Sends bans to auth side by side; one that is not acknowledged stays due."""
    acknowledged = await asyncio.gather(*(_set_ban(auth, delivery) for delivery in due))
    return [d.sanction.version for d, done in zip(due, acknowledged, strict=True) if done]


def to_proto(sanction: Sanction) -> fraud_pb2.Sanction:
    """The sanction as it is published."""
    return fraud_pb2.Sanction(
        user_id=sanction.user_id,
        kind=cast(fraud_pb2.Sanction.Kind, sanction.kind.value),
        version=sanction.version,
        until_ms=sanction.until_ms,
    )


async def _set_ban(auth: AuthStub, delivery: Delivery) -> bool:
    sanction = delivery.sanction
    request = auth_pb2.SetBanRequest(
        user_id=sanction.user_id,
        banned=sanction.kind is Kind.BANNED,
        until_ms=sanction.until_ms,
        version=sanction.version,
        reason=delivery.cause,
    )
    try:
        await auth.SetBan(request, timeout=SET_BAN_TIMEOUT_S)
    except Failed as failed:
        log.warning(
            "ban_not_taken",
            stream="security",
            user_id=sanction.user_id,
            version=sanction.version,
            attempts=delivery.attempts,
            error=failed.code,
        )
        return False
    return True
