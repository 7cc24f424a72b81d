"""The calls of Fraud: check, act, answer."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from prometheus_client import Counter

from chassis import clock
from chassis.batching import bounded
from chassis.errors import Invalid
from chassis.postgres import AWAY, DbUnavailable
from chassis.telemetry import log
from protos import fraud_pb2 as pb
from protos import fraud_pb2_grpc
from services.fraud import rules
from services.fraud.rules import Duration, Fact, Reason
from services.fraud.sanctions import Relay, Sanctions, to_proto
from services.fraud.sentences import ALLOWED, Charge, Docket, Kind, Record, Sanction, Verdict
from services.fraud.store import FraudStore, Incident
from services.fraud.windows import Attempt, Counted, Windows

GRAVE = frozenset({"time", "amount", "foreign"})  # rules whose incidents open cases
OUT_OF_BOUNDS = "SUSPICIOUS_ACTIVITY"  # how actions refuses times that cannot be

_verdicts = Counter("fraud_verdicts_total", "Attempts judged", ["decision"])
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_THREE_UUIDS = re.compile(f"{_UUID} {_UUID} {_UUID}")
_RULE = re.compile(r"[a-z_]{1,32}")


class IdInvalid(Invalid):
    """An id is not a UUID in lower case."""


class FraudService(fraud_pb2_grpc.FraudServicer):
    """Judges attempts, takes in what others found, tells who is under which sanction."""

    def __init__(
        self,
        store: FraudStore,
        windows: Windows,
        sanctions: Sanctions,
        *,
        relays: Sequence[Relay],
    ) -> None:
        """`relays` are called when sanctions may have been written."""
        self._store = store
        self._windows = windows
        self._sanctions = sanctions
        self._relays = relays

    async def Judge(self, request: pb.JudgeRequest, context: Any) -> pb.JudgeReply:
        bounded(request.items)
        # A trusted server's word is not judged: it is answered the player's sanction alone.
        items = [item for item in request.items if not item.granted]
        judged = iter(await self._judge(items))
        return pb.JudgeReply(
            verdicts=[
                _verdict(ALLOWED, self._sanctions.of(item.user_id))
                if item.granted
                else next(judged)
                for item in request.items
            ]
        )

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportReply:
        bounded(request.incidents)
        incidents = [_incident(item) for item in request.incidents if _readable(item)]
        try:
            cases = await self._store.report(incidents, grave=GRAVE)
        except AWAY as error:
            raise DbUnavailable from error
        for case in cases:
            log.info(
                "case_opened", stream="security", user_id=case.user_id, source_id=case.source_id
            )
        return pb.ReportReply()

    async def SanctionsSince(
        self, request: pb.SanctionsSinceRequest, context: Any
    ) -> pb.SanctionsSinceReply:
        try:
            found = await self._store.sanctions_since(request.version)
        except AWAY as error:
            raise DbUnavailable from error
        return pb.SanctionsSinceReply(sanctions=map(to_proto, found))

    async def _judge(self, items: Sequence[pb.JudgeItem]) -> list[pb.Verdict]:
        if not items:
            return []
        attempts = [_attempt(item) for item in items]
        counted = await self._windows.count(attempts)
        verdicts: list[pb.Verdict] = [_ALLOWED] * len(attempts)
        charges: dict[int, Charge] = {}
        for at, (attempt, seen) in enumerate(zip(attempts, counted, strict=True)):
            facts: tuple[Fact, ...] = (seen.burst,) if seen.burst else ()
            if not attempt.accepted and items[at].refusal == OUT_OF_BOUNDS:
                facts = (*facts, _duration(items[at]))
            if facts or self._sanctions.lately(attempt.user_id):
                charges[at] = _charge(attempt, seen, facts)
        if charges:
            settled = await self._settle(list(charges.values()))
            for at, (verdict, sanction) in zip(charges, settled, strict=True):
                verdicts[at] = _verdict(verdict, sanction)
                _verdicts.labels(verdict.decision.name.lower()).inc()
        _verdicts.labels("allow").inc(len(attempts) - len(charges))
        return verdicts

    async def _settle(self, charges: Sequence[Charge]) -> list[tuple[Verdict, Sanction | None]]:
        """Each charge's verdict, recorded where it is not allow, and its player's sanction."""
        try:
            return await self._record(charges)
        except AWAY as error:
            # An attempt is judged by what is known here, and by the records when it comes
            # again: the short windows still hold what was found.
            log.error("verdicts_not_recorded", charges=len(charges), error=repr(error))
            return self._provisional(charges)

    async def _record(self, charges: Sequence[Charge]) -> list[tuple[Verdict, Sanction | None]]:
        known = await self._store.verdicts([charge.subject_id for charge in charges])
        new = [c for c in charges if c.subject_id not in known and self._to_judge(c)]
        for charge, (verdict, sanction) in zip(
            new, await self._store.settle(new) if new else (), strict=True
        ):
            known[charge.subject_id] = verdict
            if sanction:
                self._sanctions.learn(sanction)
            log.info(
                "attempt_judged",
                stream="security",
                user_id=charge.user_id,
                action_id=charge.action_id,
                decision=verdict.decision.name.lower(),
                decision_id=verdict.decision_id,
                rules=[reason.rule for reason in verdict.reasons],
            )
        if new:
            for relay in self._relays:
                relay.call()
        return [
            (known.get(charge.subject_id, ALLOWED), self._sanctions.of(charge.user_id))
            for charge in charges
        ]

    def _provisional(self, charges: Sequence[Charge]) -> list[tuple[Verdict, Sanction | None]]:
        records = {c.user_id: Record(self._sanctions.of(c.user_id)) for c in charges}
        docket = Docket(version=0, at_ms=clock.now_ms(), verdicts={}, records=records)
        return [
            (
                replace(docket.hear(charge), decision_id="") if self._to_judge(charge) else ALLOWED,
                self._sanctions.of(charge.user_id),
            )
            for charge in charges
        ]

    def _to_judge(self, charge: Charge) -> bool:
        """Else the charge is only here for a verdict that may be recorded."""
        if charge.facts:
            return True
        sanction = self._sanctions.of(charge.user_id)
        banned = sanction is not None and sanction.kind is Kind.BANNED
        return banned and charge.accepted and not charge.fixed


def _attempt(item: pb.JudgeItem) -> Attempt:
    attempt = Attempt(item.attempt_id, item.action_id, item.user_id, item.accepted)
    # Ids become parts of Redis keys, so nothing else may pass.
    ids = f"{attempt.attempt_id} {attempt.action_id} {attempt.user_id}"
    if not _THREE_UUIDS.fullmatch(ids):
        raise IdInvalid
    return attempt


def _charge(attempt: Attempt, seen: Counted, facts: tuple[Fact, ...]) -> Charge:
    return Charge(
        subject_id=attempt.action_id if attempt.accepted else attempt.attempt_id,
        action_id=attempt.action_id,
        user_id=attempt.user_id,
        accepted=attempt.accepted,
        fixed=seen.fixed,
        facts=facts,
    )


def _duration(item: pb.JudgeItem) -> Duration:
    return Duration(
        attempt_id=item.attempt_id,
        elapsed_ms=item.elapsed_ms,
        claimed_ms=item.claimed_ms if item.HasField("claimed_ms") else None,
        min_ms=item.min_duration_ms if item.HasField("min_duration_ms") else rules.DURATION_MIN_MS,
        max_ms=item.max_duration_ms if item.HasField("max_duration_ms") else rules.DURATION_MAX_MS,
    )


def _verdict(verdict: Verdict, sanction: Sanction | None) -> pb.Verdict:
    return pb.Verdict(
        decision=cast(pb.Verdict.Decision, verdict.decision.value),
        ruleset=verdict.ruleset,
        reasons=map(_reason, verdict.reasons),
        decision_id=verdict.decision_id,
        sanction=to_proto(sanction) if sanction else None,
    )


def _reason(reason: Reason) -> pb.Reason:
    return pb.Reason(
        rule=reason.rule,
        version=reason.version,
        severity=reason.severity,
        observed=reason.observed,
        threshold=reason.threshold,
        window_ms=reason.window_ms,
        evidence=reason.evidence,
    )


def _readable(item: pb.Incident) -> bool:
    """One that nobody could store is dropped: its finder would report it for ever."""
    ids = (item.user_id, item.action_id or item.user_id, item.other_user_id or item.user_id)
    fits = (
        0 < len(item.incident_id) <= 128
        and _THREE_UUIDS.fullmatch(" ".join(ids))
        and _RULE.fullmatch(item.rule)
        and len(item.action_type) <= 128
        and 0 <= item.at_ms < 2**43
    )
    if not fits:
        log.error("incident_dropped", incident_id=item.incident_id[:128], rule=item.rule[:32])
    return bool(fits)


def _incident(item: pb.Incident) -> Incident:
    return Incident(
        incident_id=item.incident_id,
        user_id=item.user_id,
        rule=item.rule,
        action_id=item.action_id,
        action_type=item.action_type,
        observed=item.observed,
        threshold=item.threshold,
        at_ms=item.at_ms,
        other_user_id=item.other_user_id,
    )


_ALLOWED = _verdict(ALLOWED, None)
