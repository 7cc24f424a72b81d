"""The award: from a token to a ledger row, its ranks and its answer, a batch at a time.

    verify (actions) ─> judge (fraud) ─> write (ledger, or journal) ─> publish (boards, events)

Each step takes what is still to be decided, by its place in the batch, and returns the answers
it decided and what goes on. One bad item never fails its neighbours. The ledger row alone decides
whether a token is used.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter

from chassis.errors import Failed, Internal, Timeout, Unavailable, from_proto
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from protos import actions_pb2, fraud_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards.incidents import Incidents
from services.scores.awards.journal import ReplayJournal
from services.scores.awards.publish import Publisher
from services.scores.awards.records import (
    AccountBanned,
    ActionClosed,
    Answer,
    Answers,
    IdempotencyKeyReused,
    Judged,
    QueuedForReplay,
    ScoreOutOfRange,
    SuspiciousActivity,
    TokenAlreadyUsed,
    Verified,
)
from services.scores.awards.repeats import Repeats
from services.scores.awards.write import LedgerWriter
from services.scores.boards.changes import Row, Written

JUDGE_S = 0.5
AWARDED = "awarded"

_attempts = Counter("scoreboard_awards_total", "Attempts, by `awarded` or why not", ["outcome"])
_by_outcome = cache(_attempts.labels)
# A counter that appears with its first event has no rate for it.
for _failure in (
    *(TokenAlreadyUsed, ActionClosed, IdempotencyKeyReused, ScoreOutOfRange, SuspiciousActivity),
    *(AccountBanned, QueuedForReplay, DbUnavailable, Unavailable, Timeout, Internal),
):
    _by_outcome(_failure().code)
_by_outcome(AWARDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardPipeline:
    """The steps in their order."""

    actions: ActionsStub
    fraud: FraudStub
    repeats: Repeats
    writer: LedgerWriter
    journal: ReplayJournal
    publisher: Publisher
    incidents: Incidents

    async def award(self, items: Sequence[scores_pb2.AwardItem]) -> list[Answer]:
        """The award of each item, or why there is none. Each action is awarded at most once."""
        try:
            answers = await self._award(items)
        except BaseException as error:
            _by_outcome(_code(error)).inc(len(items))
            raise
        failed = [answer for answer in answers if isinstance(answer, Failed)]
        _by_outcome(AWARDED).inc(len(answers) - len(failed))
        for failure in failed:
            _by_outcome(failure.code).inc()
        return answers

    async def _award(self, items: Sequence[scores_pb2.AwardItem]) -> list[Answer]:
        answers, verified = await self._verify(items)
        repeated, judgeable = await self._find_used(verified)
        refused, judged = await self._judge(judgeable)
        unwritten, written = await self._write(judged, verified)
        published = await self.publisher.publish(list(written.values()))
        answers |= repeated | refused | unwritten | dict(zip(written, published, strict=True))
        # A token of one's own that was redeemed before, and no repeat of that request.
        if replays := [verified[i] for i, a in answers.items() if isinstance(a, TokenAlreadyUsed)]:
            self.incidents.report(replays)
        return [answers[at] for at in range(len(items))]

    async def _verify(
        self, items: Sequence[scores_pb2.AwardItem]
    ) -> tuple[Answers, dict[int, Verified]]:
        """Goes on: what has an authentic token of its player, also if it is refused."""
        reply = await self.actions.Verify(
            actions_pb2.VerifyRequest(items=[item.attempt for item in items])
        )
        answers: Answers = {}
        verified: dict[int, Verified] = {}
        for at, (item, found) in enumerate(zip(items, reply.results, strict=True)):
            attempt = Verified(item, found)
            if attempt.refused and not attempt.own:
                answers[at] = from_proto(found.failure)
            else:
                verified[at] = attempt
        return answers, verified

    async def _find_used(
        self, verified: Mapping[int, Verified]
    ) -> tuple[Answers, dict[int, Verified]]:
        """A ledger row outranks every other reason to refuse. Goes on: what fraud is to judge."""
        refused = {at: attempt for at, attempt in verified.items() if attempt.refused}
        if not refused:
            return {}, dict(verified)
        answers: Answers
        try:
            rows = await self.repeats.rows([a.action_id for a in refused.values()])
        except DbUnavailable:
            # Only the ledger can say whether these were used.
            answers = {at: DbUnavailable() for at in refused}
        else:
            used = {at: rows[a.action_id] for at, a in refused.items() if a.action_id in rows}
            answers = await self.repeats.answer(refused, used)
            # A refused grant is not judged: its game server is trusted.
            for at, attempt in refused.items():
                if attempt.granted and at not in answers:
                    answers[at] = from_proto(attempt.found.failure)
        return answers, {at: a for at, a in verified.items() if at not in answers}

    async def _judge(self, attempts: Mapping[int, Verified]) -> tuple[Answers, dict[int, Judged]]:
        """Goes on: what is not refused. What Verify refused is judged too: fraud counts it."""
        verdicts = await self._verdicts(attempts) if attempts else {}
        answers: Answers = {}
        judged: dict[int, Judged] = {}
        closing: list[str] = []
        for at, attempt in attempts.items():
            verdict = verdicts.get(at)
            refusal = _refusal(attempt, verdict)
            if refusal is None:
                judged[at] = _judged(attempt, verdict)
                continue
            answers[at] = refusal
            rejected = isinstance(refusal, SuspiciousActivity)
            if (attempt.found.closes or rejected) and not attempt.granted:
                closing.append(attempt.action_id)
        if closing:
            await self.publisher.settle(refused=closing)
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
            reply = await self.fraud.Judge(request, timeout=JUDGE_S)
        except Failed as failed:
            # What must never pass without a verdict, actions has checked. The award goes on and
            # is judged from the event stream.
            log.warning("judgement_missing", code=failed.code, attempts=len(attempts))
            return {}
        places = list(attempts)
        return {places[index]: verdict for index, verdict in reply.verdicts.items()}

    async def _write(
        self, judged: Mapping[int, Judged], verified: Mapping[int, Verified]
    ) -> tuple[Answers, dict[int, tuple[Judged, Written]]]:
        """Goes on: what has a new row. While Postgres is unavailable all goes to the journal."""
        if not judged:
            return {}, {}
        batch = list(judged.values())
        try:
            rows = await self.writer.write(batch)
        except DbUnavailable:
            queued = await self.journal.queue(batch)
            return dict(zip(judged, queued, strict=True)), {}
        answers: Answers = {}
        written: dict[int, tuple[Judged, Written]] = {}
        used: dict[int, Row] = {}
        for at, row in zip(judged, rows, strict=True):
            if isinstance(row, Failed):
                answers[at] = row
            elif isinstance(row, Written):
                written[at] = judged[at], row
            else:
                used[at] = row
        if used:
            answers |= await self.repeats.answer(verified, used)
        return answers, written


def _code(error: BaseException) -> str:
    """What the callers of a batch get that failed as a whole."""
    if isinstance(error, asyncio.CancelledError):
        return Timeout().code  # by the deadline of the call
    return error.code if isinstance(error, Failed) else Internal().code


def _refusal(attempt: Verified, verdict: fraud_pb2.Verdict | None) -> Failed | None:
    """Why this attempt ends here; None: it goes on to the ledger."""
    if attempt.refused:
        failed = from_proto(attempt.found.failure)
        failed.reference = verdict.decision_id if verdict else failed.reference
        return failed
    if verdict is None:
        return None
    banned = verdict.sanction.kind == fraud_pb2.Sanction.BANNED
    if banned or verdict.decision == fraud_pb2.Verdict.BAN:
        return AccountBanned(reference=verdict.decision_id)
    if verdict.decision == fraud_pb2.Verdict.REJECT:
        return SuspiciousActivity(reference=verdict.decision_id)
    return None


def _judged(attempt: Verified, verdict: fraud_pb2.Verdict | None) -> Judged:
    item, sealed = attempt.item, attempt.found.sealed
    under_review = verdict is not None and (
        verdict.decision == fraud_pb2.Verdict.FLAG
        or verdict.sanction.kind == fraud_pb2.Sanction.FLAGGED
    )
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
        under_review=under_review,
    )
