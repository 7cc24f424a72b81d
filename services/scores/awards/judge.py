"""Judge: fraud's verdict on attempts, which refuses them or lets them go on to the ledger."""

from collections.abc import Mapping

from chassis.errors import Failed, from_proto
from chassis.telemetry import log
from protos import fraud_pb2
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards.answers import AccountBanned, Answers, SuspiciousActivity
from services.scores.awards.publish import Publisher
from services.scores.awards.records import Judged, Verified

JUDGE_S = 0.5
ALLOWED = fraud_pb2.Verdict()


class Judge:
    """Sends attempts to fraud, and settles the actions of those refused for good."""

    def __init__(self, fraud: FraudStub, publisher: Publisher) -> None:
        self._fraud = fraud
        self._publisher = publisher

    async def judge(self, attempts: Mapping[int, Verified]) -> tuple[Answers, dict[int, Judged]]:
        """The refused attempts, answered, and those that go on; by place.

        Attempts that Verify refused are judged too: fraud counts them.
        """
        verdicts = await self._verdicts(attempts) if attempts else {}
        answers: Answers = {}
        judged: dict[int, Judged] = {}
        closing: list[str] = []
        for at, attempt in attempts.items():
            verdict = verdicts.get(at, ALLOWED)
            refusal = _refusal(attempt, verdict)
            if refusal is None:
                judged[at] = _judged(attempt, verdict)
                continue
            answers[at] = refusal
            rejected = isinstance(refusal, SuspiciousActivity)
            if (attempt.found.closes or rejected) and not attempt.granted:
                closing.append(attempt.action_id)
        if closing:
            await self._publisher.settle(refused=closing)
        return answers, judged

    async def _verdicts(self, attempts: Mapping[int, Verified]) -> dict[int, fraud_pb2.Verdict]:
        """By place; none for an attempt that is simply allowed."""
        request = fraud_pb2.JudgeRequest()
        for attempt in attempts.values():
            request.items.add(
                attempt_id=attempt.item.attempt.attempt_id,
                verified=attempt.found,
                granted=attempt.granted,
            )
        try:
            reply = await self._fraud.Judge(request, timeout=JUDGE_S)
        except Failed as failed:
            # What must never pass without a verdict, actions has checked. The award goes on and
            # is judged from the event stream.
            log.warning("judgement_missing", code=failed.code, attempts=len(attempts))
            return {}
        places = list(attempts)
        return {places[index]: verdict for index, verdict in reply.verdicts.items()}


def _refusal(attempt: Verified, verdict: fraud_pb2.Verdict) -> Failed | None:
    """Why this attempt ends here; None: it goes on to the ledger."""
    if attempt.refused:
        failed = from_proto(attempt.found.failure)
        failed.reference = verdict.decision_id
        return failed
    banned = verdict.sanction.kind == fraud_pb2.Sanction.BANNED
    if banned or verdict.decision == fraud_pb2.Verdict.BAN:
        return AccountBanned(reference=verdict.decision_id)
    if verdict.decision == fraud_pb2.Verdict.REJECT:
        return SuspiciousActivity(reference=verdict.decision_id)
    return None


def _judged(attempt: Verified, verdict: fraud_pb2.Verdict) -> Judged:
    item, sealed = attempt.item, attempt.found.sealed
    flagged = verdict.sanction.kind == fraud_pb2.Sanction.FLAGGED
    return Judged(
        action_id=sealed.action_id,
        user_id=sealed.user_id,
        username=item.username,
        name_version=item.name_version,
        action_type=sealed.action_type,
        points=attempt.found.points,
        attempt_id=item.attempt.attempt_id,
        client_id=item.attempt.grant.client_id if attempt.granted else None,
        key_hash=item.key_hash or None,
        body_hash=item.body_hash or None,
        under_review=flagged or verdict.decision == fraud_pb2.Verdict.FLAG,
    )
