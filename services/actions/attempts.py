"""Attempts to complete or redeem actions: judged in batches; the incidents found go to fraud."""

import asyncio
import hashlib
import hmac
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chassis.batching import BATCH_MAX
from chassis.errors import Unavailable
from chassis.postgres import DbUnavailable
from chassis.postgres.outbox import OutboxRelay
from chassis.telemetry import log
from protos import fraud_pb2
from protos.fraud_pb2_grpc import FraudStub
from services.actions import proofs
from services.actions.catalogue import ActionType, Catalogue
from services.actions.failures import (
    ActionClosed,
    ActionCompleted,
    ActionNotFound,
    TokenExpired,
    TokenInvalid,
)
from services.actions.issuing import Settlements
from services.actions.proofs import Claims, Refusal
from services.actions.store import CLOSED, ActionsStore, Completion, Incident, Row, Strike
from services.actions.tokens import Sealed, Sealer

COMPLETED_TTL_S = 300  # life of the token that completing returns
STORE_WAIT_S = 1.0  # a token is judged without Postgres after that
_INCIDENTS = uuid.UUID("4bd0c3a4-4a0f-5d0c-9d7e-2f7a8a3e3b51")  # the namespace of their ids


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One player's claim on an action, and what became of it."""

    attempt_id: str
    caller: str
    claims: Claims
    sealed: Sealed | None = None  # of an authentic token, or of the action's row
    key: bytes = b""
    bounds: ActionType | None = None
    points: int = 0  # that a verified one is worth
    refusal: Refusal | None = None
    closed: bool = False  # the action, by this refusal
    fresh_token: str = ""  # of a completed action
    repeat: bool = False  # of the request that completed it


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


class Attempts:
    """Judges attempts. Nothing of a verified one is consumed."""

    def __init__(
        self,
        store: ActionsStore,
        catalogue: Catalogue,
        sealer: Sealer,
        relay: IncidentRelay,
        settlements: Settlements,
        *,
        points_max: int,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._sealer = sealer
        self._relay = relay
        self._settlements = settlements
        self._points_max = points_max

    async def verify(self, claimed: Iterable[tuple[Attempt, str]], *, now_ms: int) -> list[Attempt]:
        """Judges attempts by the tokens beside them.

        Forged tokens cause no I/O. While Postgres is unavailable the seal alone decides, and
        attempts on types that this process has not seen are refused by DbUnavailable.
        """
        attempts = [self._open(attempt, token) for attempt, token in claimed]
        own = [(one, one.sealed) for one in attempts if one.sealed and one.refusal is None]
        states = await self._states([sealed for _, sealed in own]) if own else {}
        for attempt, sealed in own:
            attempt.bounds = self._catalogue.get(sealed.action_type)
            state = states.get(sealed.action_id, "")
            attempt.refusal = self._refusal(attempt, sealed, state=state, now_ms=now_ms)
            if attempt.refusal and state == "awarded":
                # What was awarded is up to the ledger: nothing is left to close or report.
                attempt.refusal = Refusal(attempt.refusal.failure)
        await self._record(attempts, now_ms)
        return attempts

    async def complete(
        self, claimed: Sequence[tuple[Attempt, str]], *, now_ms: int
    ) -> list[Attempt]:
        """Judges attempts by the rows of the action ids beside them; a fresh token for each
        that holds, from `now_ms` on. Raises Unavailable."""
        known = {action_id for _, action_id in claimed if action_id}
        rows = await self._store.find([*known]) if known else {}
        await self._catalogue.learn({row.sealed.action_type for row in rows.values()})
        attempts = [self._find(attempt, rows.get(key), now_ms) for attempt, key in claimed]
        await self._record(attempts, now_ms)
        await self._complete([attempt for attempt in attempts if not attempt.refusal], now_ms)
        return attempts

    def _open(self, attempt: Attempt, token: str) -> Attempt:
        """Opens the token, and refuses where that takes no I/O to see."""
        if sealed := self._sealer.open(token):
            self._take(attempt, sealed)
        else:
            attempt.refusal = Refusal(TokenInvalid())
        return attempt

    def _take(self, attempt: Attempt, sealed: Sealed) -> None:
        attempt.sealed = sealed
        attempt.bounds = self._catalogue.get(sealed.action_type)
        attempt.key = self._sealer.signing_key(sealed)
        attempt.refusal = proofs.mismatch(
            sealed, attempt.claims, caller=attempt.caller, bounds=attempt.bounds, key=attempt.key
        )

    async def _states(self, own: Sequence[Sealed]) -> dict[str, str]:
        """How those that are settled were, by action id; nothing while Postgres is unavailable."""
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                await self._catalogue.learn({sealed.action_type for sealed in own})
                return await self._store.settled([sealed.action_id for sealed in own])
        except (Unavailable, TimeoutError) as error:
            log.warning("verified_by_seal_alone", items=len(own), error=repr(error))
            return {}

    def _refusal(
        self, attempt: Attempt, sealed: Sealed, *, state: str, now_ms: int
    ) -> Refusal | None:
        if attempt.bounds is None:
            return Refusal(DbUnavailable())  # a type made since this process last saw Postgres
        value = proofs.worth(sealed, attempt.claims.proof, attempt.bounds)
        attempt.points = value if isinstance(value, int) else 0
        return proofs.refusal(
            sealed,
            attempt.claims,
            bounds=attempt.bounds,
            value=value,
            closed=state in CLOSED,
            now_ms=now_ms,
            points_max=self._points_max,
            key=attempt.key,
        )

    def _find(self, attempt: Attempt, row: Row | None, now_ms: int) -> Attempt:
        """Judges the attempt to complete the action of `row`."""
        if row is None or row.sealed.user_id != attempt.caller:
            attempt.refusal = Refusal(ActionNotFound())
            return attempt
        self._take(attempt, row.sealed)
        if attempt.refusal is None and row.state in ("completed", "awarded"):
            attempt.points = row.sealed.points
            attempt.refusal = _again(attempt, row, now_ms)
        elif attempt.refusal is None:
            attempt.refusal = self._refusal(attempt, row.sealed, state=row.state, now_ms=now_ms)
        return attempt

    async def _complete(self, verified: Sequence[Attempt], now_ms: int) -> None:
        """Completes the actions, a fresh token for each."""
        expires_at_ms = now_ms + COMPLETED_TTL_S * 1000
        completions = []
        for attempt in verified:
            if attempt.sealed:
                attempt.sealed = attempt.sealed._replace(
                    points=attempt.points, expires_at_ms=expires_at_ms, completed=True
                )
                attempt.fresh_token = self._sealer.seal(attempt.sealed)
                digest = hashlib.sha256(attempt.fresh_token.encode()).digest()
                completions.append(
                    Completion(attempt.sealed.action_id, attempt.points, _checksum(attempt), digest)
                )
        if not completions:
            return
        done = await self._store.complete(completions, expires_at_ms=expires_at_ms)
        late: list[tuple[Attempt, str]] = []
        for attempt, completion in zip(verified, completions, strict=True):
            action_id = completion.action_id
            checksum, attempt.repeat = done.get(action_id, (b"", False))
            if hmac.compare_digest(checksum, completion.checksum):
                done[action_id] = checksum, True  # for a copy in the same batch
            else:
                late.append((attempt, action_id))
        if late:
            # Another proof completed them, or something settled them, since the rows were read.
            rows = await self._store.find([action_id for _, action_id in late])
            for attempt, action_id in late:
                closed = rows[action_id].state in CLOSED
                attempt.refusal = Refusal(ActionClosed() if closed else ActionCompleted())

    async def _record(self, attempts: Sequence[Attempt], now_ms: int) -> None:
        """Stores what the refusals entail, before they are returned."""
        strikes: list[Strike] = []
        incidents: list[Incident] = []
        for attempt in attempts:
            sealed, refusal = attempt.sealed, attempt.refusal
            if sealed is None or refusal is None:
                continue
            attempt.closed = refusal.closes
            if refusal.closes or refusal.counts:
                strikes.append(Strike(sealed.action_id, refusal.closes))
            if refusal.rule:
                incidents.append(_incident(attempt, sealed, refusal, now_ms))
        if not strikes and not incidents:
            return
        for incident in incidents:
            log.warning("incident_found", stream="security", **incident._asdict())
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                closed = dict(await self._store.record(strikes, incidents, now_ms=now_ms))
        except (Unavailable, TimeoutError) as error:
            log.error("incidents_not_recorded", incidents=len(incidents), error=repr(error))
            return
        for attempt in attempts:
            if attempt.refusal and attempt.refusal.counts and attempt.sealed:
                attempt.closed = attempt.sealed.action_id in closed
        self._settlements.publish(closed.values())
        self._relay.wake()


def _again(attempt: Attempt, row: Row, now_ms: int) -> Refusal | None:
    """The very same request gets its reply again until the action is redeemed, as that may
    have been lost. Its timestamp may be old by then; the checksum covers it."""
    proof = attempt.claims.proof
    if row.state != "completed" or proof is None or row.completed_checksum is None:
        return Refusal(ActionCompleted())
    text = proofs.proof_text(row.sealed, proof, attempt.claims.timestamp)
    right = proofs.signature_right(text, proof.checksum, attempt.key)
    if not right or not hmac.compare_digest(_checksum(attempt), row.completed_checksum):
        return Refusal(ActionCompleted())
    expires_at_ms = row.sealed.expires_at_ms
    return Refusal(TokenExpired(expires_at_ms)) if now_ms >= expires_at_ms else None


def _checksum(attempt: Attempt) -> bytes:
    """The checksum's bytes, of an attempt whose proof was verified."""
    return bytes.fromhex(attempt.claims.proof.checksum) if attempt.claims.proof else b""


def _incident(attempt: Attempt, sealed: Sealed, refusal: Refusal, now_ms: int) -> Incident:
    # The same id for each repeat of the incident, so that sending it again does no harm.
    repeated = f"{sealed.action_id}\n{refusal.rule}\n{attempt.attempt_id}"
    return Incident(
        incident_id=str(uuid.uuid5(_INCIDENTS, repeated)),
        user_id=attempt.caller,
        rule=refusal.rule,
        action_id=sealed.action_id,
        action_type=sealed.action_type,
        observed=refusal.observed,
        threshold=refusal.threshold,
        at_ms=now_ms,
        other_user_id=sealed.user_id if refusal.rule == "foreign" else None,
    )
