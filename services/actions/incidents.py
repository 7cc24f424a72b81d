"""Incidents found here, and the relay that sends them to fraud."""

import uuid

from chassis.batching import BATCH_MAX
from chassis.postgres.outbox import OutboxRelay
from protos import fraud_pb2
from protos.fraud_pb2_grpc import FraudStub
from services.actions.store import ActionsStore

_NAMESPACE = uuid.UUID("4bd0c3a4-4a0f-5d0c-9d7e-2f7a8a3e3b51")


def incident_id(*, action_id: str, rule: str, attempt_id: str) -> str:
    """The same for each repeat of the incident, so that sending it again does no harm."""
    return str(uuid.uuid5(_NAMESPACE, f"{action_id}\n{rule}\n{attempt_id}"))


class IncidentRelay(OutboxRelay):
    """Sends fraud the incidents of the outbox, in batches, off every path."""

    def __init__(self, store: ActionsStore, fraud: FraudStub) -> None:
        super().__init__("incidents", self.send)
        self._store = store
        self._fraud = fraud

    async def send(self) -> int:
        """Sends one batch; returns how many. Raises Failed."""
        incidents = await self._store.incidents(limit=BATCH_MAX)
        if incidents:
            found = [fraud_pb2.Incident(**incident._asdict()) for incident in incidents]
            await self._fraud.Report(fraud_pb2.ReportRequest(incidents=found))
            await self._store.drop_incidents([incident.incident_id for incident in incidents])
        return len(incidents)
