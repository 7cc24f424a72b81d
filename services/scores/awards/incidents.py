"""Incidents found here, tokens shown again after they were redeemed, and their way to fraud."""

import asyncio
import uuid
from collections.abc import Sequence

from chassis import clock
from chassis.postgres import DbUnavailable
from chassis.postgres.outbox import OutboxRelay
from chassis.telemetry import log
from protos import fraud_pb2
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards.records import Incident, Verified
from services.scores.awards.store import LedgerStore

REPORT_S = 5.0
_NAMESPACE = uuid.UUID("0b0e5b6c-4f5e-5a3e-8a37-2f0a1f6b9d44")


class Incidents:
    """Stores incidents off the path of awards and reports them to fraud, in batches."""

    def __init__(self, ledger: LedgerStore, fraud: FraudStub) -> None:
        self._ledger = ledger
        self._fraud = fraud
        self._outbox = OutboxRelay("incidents", self.send)
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, replays: Sequence[Verified]) -> None:
        """Has attempts whose token was redeemed before stored and sent; returns at once."""
        now_ms = clock.now_ms()
        incidents = [_incident(attempt, now_ms) for attempt in replays]
        for incident in incidents:
            log.warning(
                "token_replayed",
                stream="security",
                user_id=incident.user_id,
                action_id=incident.action_id,
                incident_id=incident.incident_id,
            )
        task = asyncio.create_task(self._add(incidents))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Sends forever."""
        await self._outbox.run()

    async def send(self) -> int:
        """Sends fraud one batch; returns how many. Raises Failed."""
        incidents = await self._ledger.incidents()
        if incidents:
            reports = [fraud_pb2.Incident(rule="replay", **i._asdict()) for i in incidents]
            request = fraud_pb2.ReportRequest(incidents=reports)
            await self._fraud.Report(request, timeout=REPORT_S)
            await self._ledger.delete_incidents([i.incident_id for i in incidents])
        return len(incidents)

    async def drain(self) -> None:
        """Returns when all that was reported is stored."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _add(self, incidents: Sequence[Incident]) -> None:
        try:
            await self._ledger.add_incidents(incidents)
        except DbUnavailable as error:
            log.error("incidents_lost", error=repr(error), incidents=len(incidents))
            return
        self._outbox.wake()


def _incident(attempt: Verified, at_ms: int) -> Incident:
    """The same for each repeat of the attempt."""
    name = f"{attempt.action_id}\nreplay\n{attempt.item.attempt.attempt_id}"
    return Incident(
        incident_id=str(uuid.uuid5(_NAMESPACE, name)),
        user_id=attempt.item.attempt.user_id,
        action_id=attempt.action_id,
        action_type=attempt.found.sealed.action_type,
        at_ms=at_ms,
    )
