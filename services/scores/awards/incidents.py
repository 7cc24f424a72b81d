"""Offences found here, tokens shown again after they were redeemed, and their way to fraud."""

import asyncio
import uuid
from collections.abc import Sequence

from chassis.batching import BATCH_MAX
from chassis.outbox import Outbox
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from protos import fraud_pb2
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards.incident_store import Incident, Incidents

REPORT_S = 5.0
_NAMESPACE = uuid.UUID("0b0e5b6c-4f5e-5a3e-8a37-2f0a1f6b9d44")


class Findings:
    """Keeps findings off the path of awards and tells fraud of them, in batches."""

    def __init__(self, incidents: Incidents, fraud: FraudStub) -> None:
        self._incidents = incidents
        self._fraud = fraud
        self._outbox = Outbox("incidents", self.tell)
        self._keeping: set[asyncio.Task[None]] = set()

    def report(self, incidents: Sequence[Incident]) -> None:
        """Has them kept and told; returns at once."""
        for incident in incidents:
            log.warning(
                "token_replayed",
                stream="security",
                user_id=incident.user_id,
                action_id=incident.action_id,
                incident_id=incident.incident_id,
            )
        task = asyncio.create_task(self._keep(incidents))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def run(self) -> None:
        """Tells for ever."""
        await self._outbox.run()

    async def tell(self) -> int:
        """Tells fraud of one batch; answers how many. Raises Failed."""
        incidents = await self._incidents.some(limit=BATCH_MAX)
        if incidents:
            request = fraud_pb2.ReportRequest(incidents=map(_proto, incidents))
            await self._fraud.Report(request, timeout=REPORT_S)
            await self._incidents.drop([incident.incident_id for incident in incidents])
        return len(incidents)

    async def drain(self) -> None:
        """Returns when all that was reported is kept."""
        while self._keeping:
            await asyncio.wait(self._keeping)

    async def _keep(self, incidents: Sequence[Incident]) -> None:
        try:
            await self._incidents.add(incidents)
        except DbUnavailable as error:
            log.error("incidents_not_kept", error=repr(error), incidents=len(incidents))
            return
        self._outbox.wake()


def replay(
    *, action_id: str, attempt_id: str, user_id: str, action_type: str, at_ms: int
) -> Incident:
    """A token was shown again, in that attempt; always the same incident for it."""
    name = f"{action_id}\nreplay\n{attempt_id}"
    return Incident(str(uuid.uuid5(_NAMESPACE, name)), user_id, action_id, action_type, at_ms)


def _proto(incident: Incident) -> fraud_pb2.Incident:
    return fraud_pb2.Incident(
        incident_id=incident.incident_id,
        user_id=incident.user_id,
        rule="replay",
        action_id=incident.action_id,
        action_type=incident.action_type,
        at_ms=incident.at_ms,
    )
