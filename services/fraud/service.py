"""The calls of Fraud: check, act, reply."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from msgspec.structs import asdict
from prometheus_client import Counter

from chassis import clock
from chassis.batching import bounded
from chassis.errors import Invalid
from chassis.ids import is_uuid
from chassis.postgres import DbUnavailable
from chassis.postgres.outbox import OutboxRelay
from chassis.telemetry import log
from protos import actions_pb2, fraud_pb2_grpc
from protos import fraud_pb2 as pb
from services.fraud import rules
from services.fraud.evaluations import (
    ALLOWED,
    Attempt,
    Evaluation,
    EvaluationBatch,
    Judgement,
    Kind,
    Record,
    Sanction,
    Verdict,
)
from services.fraud.rules import Duration, Fact
from services.fraud.sanctions import SanctionCache, to_proto
from services.fraud.sanctions_store import SanctionStore
from services.fraud.store import FraudStore
from services.fraud.windows import FIXED, Counted, Windows, WindowsUnavailable

INCIDENTS = ("time", "amount", "foreign", "proof", "replay", "limit")  # rules of other units
GRAVE = frozenset({"time", "amount", "foreign"})  # those whose incidents open cases
OUT_OF_BOUNDS = "SUSPICIOUS_ACTIVITY"  # how actions refuses times that cannot be

_judged = Counter("fraud_verdicts_total", "Attempts judged", ["decision"])
_uncounted = Counter("fraud_uncounted_total", "Attempts judged while Redis was unavailable")
_anomalies = Counter(
    "scoreboard_anomaly_events_total", "Rules that were broken, and incidents reported", ["rule"]
)
# A counter that appears with its first event has no rate for it.
for _decision in rules.Decision:
    _judged.labels(_decision.name.lower())
for _rule in ("burst", "repeat", "ban", *INCIDENTS, "other"):
    _anomalies.labels(_rule)
_RULE = re.compile(r"[a-z_]{1,32}")


class IdInvalid(Invalid):
    """An id is not a UUID in lower case."""


class FraudService(fraud_pb2_grpc.FraudServicer):
    """Judges attempts, stores incidents, returns sanctions."""

    def __init__(
        self,
        store: FraudStore,
        sanction_store: SanctionStore,
        windows: Windows,
        sanctions: SanctionCache,
        *,
        relays: Sequence[OutboxRelay],
    ) -> None:
        """`relays` are woken when sanctions may have been written."""
        self._store = store
        self._sanction_store = sanction_store
        self._windows = windows
        self._sanctions = sanctions
        self._relays = relays

    async def Judge(self, request: pb.JudgeRequest, context: Any) -> pb.JudgeReply:
        bounded(request.items)
        items = list(enumerate(request.items))
        verdicts = await self._judge({place: item for place, item in items if not item.granted})
        # A grant of a trusted server is not judged: only the sanction is returned.
        for place, item in items:
            if item.granted and (sanction := self._sanctions.of(item.verified.sealed.user_id)):
                verdicts[place] = ALLOWED, sanction
        return pb.JudgeReply(
            verdicts={place: _verdict(*found) for place, found in verdicts.items()}
        )

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportReply:
        bounded(request.incidents)
        incidents = [incident for incident in request.incidents if _storable(incident)]
        new, cases = await self._store.report(incidents, grave=GRAVE)
        for incident in new:
            _anomalies.labels(incident.rule if incident.rule in INCIDENTS else "other").inc()
        for case in cases:
            log.info(
                "case_opened", stream="security", user_id=case.user_id, source_id=case.source_id
            )
        return pb.ReportReply()

    async def SanctionsSince(
        self, request: pb.SanctionsSinceRequest, context: Any
    ) -> pb.SanctionsSinceReply:
        found = await self._sanction_store.since(request.version)
        return pb.SanctionsSinceReply(sanctions=map(to_proto, found))

    async def _judge(self, items: Mapping[int, pb.JudgeItem]) -> dict[int, Judgement]:
        """By place, the verdicts and sanctions of all that are not simply allowed."""
        if not items:
            return {}
        attempts = [_attempt(item) for item in items.values()]
        counted = await self._count(attempts)
        evaluations: dict[int, Evaluation] = {}
        for place, attempt, seen in zip(items, attempts, counted, strict=True):
            facts: tuple[Fact, ...] = (seen.burst,) if seen.burst else ()
            if not attempt.accepted:
                verified = items[place].verified
                if verified.failure.code == OUT_OF_BOUNDS:
                    facts = (*facts, _duration(attempt.attempt_id, verified))
            if facts or self._sanctions.was_sanctioned(attempt.user_id):
                evaluations[place] = Evaluation(attempt, seen.fixed, facts)
        judged = await self._evaluate(list(evaluations.values())) if evaluations else []
        for verdict, _ in judged:
            _judged.labels(verdict.decision.name.lower()).inc()
        _judged.labels("allow").inc(len(attempts) - len(evaluations))
        return dict(zip(evaluations, judged, strict=True))

    async def _count(self, attempts: Sequence[Attempt]) -> Sequence[Counted]:
        try:
            return await self._windows.count(attempts)
        except WindowsUnavailable as error:
            # No verdict can be fixed, so there are no new ones; stored ones are returned.
            log.error("attempts_not_counted", attempts=len(attempts), error=repr(error.__cause__))
            _uncounted.inc(len(attempts))
            return [FIXED] * len(attempts)

    async def _evaluate(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        """The verdict of each, recorded unless it is allow, and the sanction of its player."""
        try:
            return await self._recorded(evaluations)
        except DbUnavailable as error:
            # Judged by what this process caches, and by the records when the attempt comes
            # again: the short windows still hold the burst.
            log.error("verdicts_not_recorded", evaluations=len(evaluations), error=repr(error))
            return self._provisional(evaluations)

    async def _recorded(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        known = await self._store.verdicts([e.attempt.subject_id for e in evaluations])
        new = [
            e for e in evaluations if e.attempt.subject_id not in known and self._needs_verdict(e)
        ]
        judged = await self._store.evaluate(new) if new else ()
        for evaluation, (verdict, sanction) in zip(new, judged, strict=True):
            known[evaluation.attempt.subject_id] = verdict
            _count_reasons(verdict)
            if sanction:
                self._sanctions.add(sanction)
            log.info(
                "attempt_judged",
                stream="security",
                user_id=evaluation.attempt.user_id,
                action_id=evaluation.attempt.action_id,
                decision=verdict.decision.name.lower(),
                decision_id=verdict.decision_id,
                rules=[reason.rule for reason in verdict.reasons],
            )
        if new:
            for relay in self._relays:
                relay.wake()
        return [
            (known.get(e.attempt.subject_id, ALLOWED), self._sanctions.of(e.attempt.user_id))
            for e in evaluations
        ]

    def _provisional(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        sanctions = {e.attempt.user_id: self._sanctions.of(e.attempt.user_id) for e in evaluations}
        records = {user_id: Record(sanction) for user_id, sanction in sanctions.items()}
        batch = EvaluationBatch(version=0, at_ms=clock.now_ms(), verdicts={}, records=records)
        judged: list[Judgement] = []
        for evaluation in evaluations:
            verdict = batch.evaluate(evaluation) if self._needs_verdict(evaluation) else ALLOWED
            _count_reasons(verdict)
            judged.append((replace(verdict, decision_id=""), sanctions[evaluation.attempt.user_id]))
        return judged

    def _needs_verdict(self, evaluation: Evaluation) -> bool:
        """Whether one is to be decided; else only a recorded one counts."""
        if evaluation.facts:
            return True
        sanction = self._sanctions.of(evaluation.attempt.user_id)
        banned = sanction is not None and sanction.kind is Kind.BANNED
        return banned and evaluation.attempt.accepted and not evaluation.fixed


def _count_reasons(verdict: Verdict) -> None:
    for reason in verdict.reasons:
        if reason.rule != "time":  # reported by actions as well
            _anomalies.labels(reason.rule).inc()


def _attempt(item: pb.JudgeItem) -> Attempt:
    verified = item.verified
    sealed = verified.sealed
    attempt = Attempt(
        item.attempt_id, sealed.action_id, sealed.user_id, not verified.HasField("failure")
    )
    # Ids become parts of Redis keys, so only UUIDs may pass.
    if not all(map(is_uuid, (attempt.attempt_id, attempt.action_id, attempt.user_id))):
        raise IdInvalid
    return attempt


def _duration(attempt_id: str, found: actions_pb2.VerifyResult) -> Duration:
    has = found.HasField
    return Duration(
        attempt_id=attempt_id,
        elapsed_ms=found.elapsed_ms,
        claimed_ms=found.claimed_ms if has("claimed_ms") else None,
        min_ms=found.min_duration_ms if has("min_duration_ms") else rules.DURATION_MIN_MS,
        max_ms=found.max_duration_ms if has("max_duration_ms") else rules.DURATION_MAX_MS,
    )


def _verdict(verdict: Verdict, sanction: Sanction | None) -> pb.Verdict:
    return pb.Verdict(
        decision=cast(pb.Verdict.Decision, verdict.decision.value),
        ruleset=verdict.ruleset,
        reasons=[pb.Reason(**asdict(reason)) for reason in verdict.reasons],
        decision_id=verdict.decision_id,
        sanction=to_proto(sanction) if sanction else None,
    )


def _storable(item: pb.Incident) -> bool:
    """Others are dropped and logged: refused, they would be reported forever."""
    ids = (item.user_id, item.action_id or item.user_id, item.other_user_id or item.user_id)
    fits = (
        0 < len(item.incident_id) <= 128
        and all(map(is_uuid, ids))
        and _RULE.fullmatch(item.rule) is not None
        and len(item.action_type) <= 128
        and 0 <= item.at_ms < 2**43
    )
    if not fits:
        log.error("incident_dropped", incident_id=item.incident_id[:128], rule=item.rule[:32])
    return fits
