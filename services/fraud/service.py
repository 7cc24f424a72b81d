"""The calls of Fraud: check, act, answer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec
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
    Evaluation,
    EvaluationBatch,
    Judgement,
    Kind,
    Record,
    Sanction,
    Verdict,
)
from services.fraud.rules import Duration, Fact, Reason
from services.fraud.sanctions import Sanctions, to_proto
from services.fraud.store import FraudStore, Incident
from services.fraud.windows import FIXED, Attempt, Counted, Windows, WindowsUnavailable

GRAVE = frozenset({"time", "amount", "foreign"})  # rules whose incidents open cases
OUT_OF_BOUNDS = "SUSPICIOUS_ACTIVITY"  # how actions refuses times that cannot be

_verdicts = Counter("fraud_verdicts_total", "Attempts judged", ["decision"])
_uncounted = Counter("fraud_uncounted_total", "Attempts judged while Redis was unavailable")
_RULE = re.compile(r"[a-z_]{1,32}")


class IdInvalid(Invalid):
    """An id is not a UUID in lower case."""


class FraudService(fraud_pb2_grpc.FraudServicer):
    """Judges attempts, takes in incidents, serves the sanctions."""

    def __init__(
        self,
        store: FraudStore,
        windows: Windows,
        sanctions: Sanctions,
        *,
        relays: Sequence[OutboxRelay],
    ) -> None:
        """`relays` are woken when sanctions may have been written."""
        self._store = store
        self._windows = windows
        self._sanctions = sanctions
        self._relays = relays

    async def Judge(self, request: pb.JudgeRequest, context: Any) -> pb.JudgeReply:
        bounded(request.items)
        items = list(enumerate(request.items))
        verdicts = await self._judge({place: item for place, item in items if not item.granted})
        # A trusted server's word is not judged: it is answered the player's sanction alone.
        for place, item in items:
            if item.granted and (sanction := self._sanctions.of(item.verified.sealed.user_id)):
                verdicts[place] = ALLOWED, sanction
        return pb.JudgeReply(
            verdicts={place: _verdict(*found) for place, found in verdicts.items()}
        )

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportReply:
        bounded(request.incidents)
        incidents = [_incident(item) for item in request.incidents if _readable(item)]
        cases = await self._store.report(incidents, grave=GRAVE)
        for case in cases:
            log.info(
                "case_opened", stream="security", user_id=case.user_id, source_id=case.source_id
            )
        return pb.ReportReply()

    async def SanctionsSince(
        self, request: pb.SanctionsSinceRequest, context: Any
    ) -> pb.SanctionsSinceReply:
        found = await self._store.sanctions_since(request.version)
        return pb.SanctionsSinceReply(sanctions=map(to_proto, found))

    async def _judge(self, items: Mapping[int, pb.JudgeItem]) -> dict[int, Judgement]:
        """The verdicts and sanctions of those who are not simply allowed, by place."""
        if not items:
            return {}
        attempts = [_attempt(item) for item in items.values()]
        counted = await self._counted(attempts)
        evaluations: dict[int, Evaluation] = {}
        for place, attempt, seen in zip(items, attempts, counted, strict=True):
            facts: tuple[Fact, ...] = (seen.burst,) if seen.burst else ()
            if not attempt.accepted:
                verified = items[place].verified
                if verified.failure.code == OUT_OF_BOUNDS:
                    facts = (*facts, _duration(attempt.attempt_id, verified))
            if facts or self._sanctions.lately(attempt.user_id):
                evaluations[place] = _evaluation(attempt, seen, facts)
        settled = await self._settle(list(evaluations.values())) if evaluations else []
        for verdict, _ in settled:
            _verdicts.labels(verdict.decision.name.lower()).inc()
        _verdicts.labels("allow").inc(len(attempts) - len(evaluations))
        return dict(zip(evaluations, settled, strict=True))

    async def _counted(self, attempts: Sequence[Attempt]) -> Sequence[Counted]:
        try:
            return await self._windows.count(attempts)
        except WindowsUnavailable as error:
            # No verdict can be fixed, so there are no new ones. Known ones are returned.
            log.error("attempts_not_counted", attempts=len(attempts), error=repr(error.__cause__))
            _uncounted.inc(len(attempts))
            return [FIXED] * len(attempts)

    async def _settle(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        """Each evaluation's verdict, recorded where it is not allow, and its player's sanction."""
        try:
            return await self._record(evaluations)
        except DbUnavailable as error:
            # An attempt is judged by what is known here, and by the records when it comes
            # again: the short windows still hold what was found.
            log.error("verdicts_not_recorded", evaluations=len(evaluations), error=repr(error))
            return self._provisional(evaluations)

    async def _record(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        known = await self._store.verdicts([evaluation.subject_id for evaluation in evaluations])
        new = [c for c in evaluations if c.subject_id not in known and self._to_judge(c)]
        for evaluation, (verdict, sanction) in zip(
            new, await self._store.settle(new) if new else (), strict=True
        ):
            known[evaluation.subject_id] = verdict
            if sanction:
                self._sanctions.learn(sanction)
            log.info(
                "attempt_judged",
                stream="security",
                user_id=evaluation.user_id,
                action_id=evaluation.action_id,
                decision=verdict.decision.name.lower(),
                decision_id=verdict.decision_id,
                rules=[reason.rule for reason in verdict.reasons],
            )
        if new:
            for relay in self._relays:
                relay.wake()
        return [
            (known.get(evaluation.subject_id, ALLOWED), self._sanctions.of(evaluation.user_id))
            for evaluation in evaluations
        ]

    def _provisional(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        records = {c.user_id: Record(self._sanctions.of(c.user_id)) for c in evaluations}
        batch = EvaluationBatch(version=0, at_ms=clock.now_ms(), verdicts={}, records=records)
        return [
            (
                replace(batch.evaluate(each), decision_id="") if self._to_judge(each) else ALLOWED,
                self._sanctions.of(each.user_id),
            )
            for each in evaluations
        ]

    def _to_judge(self, evaluation: Evaluation) -> bool:
        """Else the each is only here for a verdict that may be recorded."""
        if evaluation.facts:
            return True
        sanction = self._sanctions.of(evaluation.user_id)
        banned = sanction is not None and sanction.kind is Kind.BANNED
        return banned and evaluation.accepted and not evaluation.fixed


def _attempt(item: pb.JudgeItem) -> Attempt:
    verified = item.verified
    sealed = verified.sealed
    attempt = Attempt(
        item.attempt_id, sealed.action_id, sealed.user_id, not verified.HasField("failure")
    )
    # Ids become parts of Redis keys, so nothing else may pass.
    if not all(map(is_uuid, (attempt.attempt_id, attempt.action_id, attempt.user_id))):
        raise IdInvalid
    return attempt


def _evaluation(attempt: Attempt, seen: Counted, facts: tuple[Fact, ...]) -> Evaluation:
    return Evaluation(
        subject_id=attempt.action_id if attempt.accepted else attempt.attempt_id,
        action_id=attempt.action_id,
        user_id=attempt.user_id,
        accepted=attempt.accepted,
        fixed=seen.fixed,
        facts=facts,
    )


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
        reasons=map(_reason, verdict.reasons),
        decision_id=verdict.decision_id,
        sanction=to_proto(sanction) if sanction else None,
    )


def _reason(reason: Reason) -> pb.Reason:
    return pb.Reason(**msgspec.structs.asdict(reason))


def _readable(item: pb.Incident) -> bool:
    """One that no one could store is dropped: its finder would report it forever."""
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


def _incident(item: pb.Incident) -> Incident:
    return Incident(**{name: getattr(item, name) for name in Incident.__match_args__})
