"""Offences found here, and the relay that tells fraud of them."""

import uuid
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from chassis.outbox import Outbox
from protos import fraud_pb2

_NAMESPACE = uuid.UUID("4bd0c3a4-4a0f-5d0c-9d7e-2f7a8a3e3b51")


class Incident(NamedTuple):
    """One offence. Times are Unix milliseconds."""

    incident_id: str
    user_id: str  # who did it
    rule: str  # time, amount, foreign or proof
    action_id: str
    action_type: str
    observed: int
    threshold: int
    at_ms: int
    other_user_id: str | None  # foreign: whose token it was


def incident_id(*, action_id: str, rule: str, attempt_id: str) -> str:
    """Always the same for the same offence, so that telling it again does no harm."""
    return str(uuid.uuid5(_NAMESPACE, f"{action_id}\n{rule}\n{attempt_id}"))


class Waiting(Protocol):
    """Where incidents wait."""

    async def incidents(self, *, limit: int) -> Sequence[Incident]:
        """Some that wait. Raises Unavailable."""

    async def drop_incidents(self, incident_ids: Sequence[str]) -> None:
        """Forgets them. Raises Unavailable."""


class Fraud(Protocol):
    """The one call that is made of fraud."""

    async def Report(self, request: fraud_pb2.ReportRequest) -> fraud_pb2.ReportReply:
        """Takes incidents, known ones too. Raises Failed."""


class Relay:
    """Tells fraud of the incidents in the outbox, in batches, off every path.

    Replicas relay side by side: an incident told twice is known by its id.
    """

    def __init__(self, waiting: Waiting, fraud: Fraud, *, batch_max: int = 256) -> None:
        self._waiting = waiting
        self._fraud = fraud
        self._batch_max = batch_max
        self._outbox = Outbox("incidents", self.relay)

    def wake(self) -> None:
        """Says that an incident was written."""
        self._outbox.wake()

    async def run(self, *, pause_s: float = 1.0, pause_max_s: float = 10.0) -> None:
        """Relays for ever: when woken, else every `pause_s`, growing while fraud is away."""
        await self._outbox.run(pause_s=pause_s, pause_max_s=pause_max_s)

    async def relay(self) -> int:
        """Tells fraud of one batch; answers how many. Raises Failed."""
        incidents = await self._waiting.incidents(limit=self._batch_max)
        if incidents:
            await self._fraud.Report(fraud_pb2.ReportRequest(incidents=map(_proto, incidents)))
            await self._waiting.drop_incidents([incident.incident_id for incident in incidents])
        return len(incidents)


def _proto(incident: Incident) -> fraud_pb2.Incident:
    return fraud_pb2.Incident(
        incident_id=incident.incident_id,
        user_id=incident.user_id,
        rule=incident.rule,
        action_id=incident.action_id,
        action_type=incident.action_type,
        observed=incident.observed,
        threshold=incident.threshold,
        at_ms=incident.at_ms,
        other_user_id=incident.other_user_id or "",
    )
