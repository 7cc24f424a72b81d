"""The award: from a token to a ledger row, its ranks and its answer, a batch at a time.

    Actions.Verify ──> Fraud.Judge ──> ledger (one transaction) ──> boards ──> answer
                                       or journal                     └─> event, receipt, Settle

A batch travels as one unit; one bad item never fails its neighbours. The ledger row
alone decides whether a token is used. `writing.py` says what happens while Postgres is
away, `telling.py` what follows a row.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from chassis import clock
from chassis.errors import Failed, Internal, from_proto
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from protos import actions_pb2, fraud_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards.answers import (
    AccountBanned,
    AwardNotFound,
    SuspiciousActivity,
    TokenAlreadyUsed,
    conflict,
    render,
)
from services.scores.awards.incidents import Findings, replay
from services.scores.awards.publish import Telling
from services.scores.awards.records import Claim, Receipt
from services.scores.awards.store import Ledger
from services.scores.awards.write import Writer
from services.scores.boards.changes import Row

JUDGE_S = 0.5
RECEIPT_S = 0.3  # how long a repeat waits for the receipt of an award just made


@dataclass(slots=True)
class Attempt:
    """One item on its way; `answer` is set once it is decided."""

    item: scores_pb2.AwardItem
    verified: actions_pb2.VerifyResult
    action_id: str  # empty for a token that is not authentic
    refusal: str  # the code Verify refused with; empty when it did not
    granted: bool  # by a game server, without a token
    verdict: fraud_pb2.Verdict | None = None  # None: allowed, or not judged
    answer: scores_pb2.Award | Failed | None = None

    @property
    def own(self) -> bool:
        """The token is authentic and of the player who shows it, or the grant names an action."""
        return self.refusal != "TOKEN_MISMATCH" and self.action_id != ""


class Awards:
    """The pipeline over the ledger and the two services it asks."""

    def __init__(
        self,
        ledger: Ledger,
        writer: Writer,
        telling: Telling,
        findings: Findings,
        *,
        actions: ActionsStub,
        fraud: FraudStub,
    ) -> None:
        self._ledger = ledger
        self._writer = writer
        self._telling = telling
        self._findings = findings
        self._actions = actions
        self._fraud = fraud

    async def award(self, items: Sequence[scores_pb2.AwardItem]) -> list[scores_pb2.Award | Failed]:
        """The award of each item, or why there is none. Each action is awarded at most once."""
        received_at_ms = clock.now_ms()
        attempts = await self._verify(items)
        await self._find_used([a for a in attempts if a.refusal and a.own])
        await self._judge([a for a in attempts if a.answer is None])
        await self._close([a for a in attempts if _closes(a)])
        await self._write([a for a in attempts if a.answer is None], received_at_ms)
        self._report([a for a in attempts if isinstance(a.answer, TokenAlreadyUsed)])
        return [a.answer or Internal() for a in attempts]

    async def receipt(self, user_id: str, action_id: str) -> scores_pb2.Award:
        """The award as it was answered. Raises AwardNotFound, also for another player's."""
        row = (await self._writer.rows([action_id])).get(action_id)
        if row is None or row.user_id != user_id:
            raise AwardNotFound
        return render(row, (await self._receipts([action_id])).get(action_id))

    async def _verify(self, items: Sequence[scores_pb2.AwardItem]) -> list[Attempt]:
        reply = await self._actions.Verify(
            actions_pb2.VerifyRequest(items=[item.attempt for item in items])
        )
        attempts = []
        for item, verified in zip(items, reply.results, strict=True):
            attempt = Attempt(
                item,
                verified,
                verified.sealed.action_id,
                verified.failure.code,
                item.attempt.HasField("grant"),
            )
            if attempt.refusal and not attempt.own:
                attempt.answer = from_proto(verified.failure)
            attempts.append(attempt)
        return attempts

    async def _find_used(self, attempts: Sequence[Attempt]) -> None:
        """A row that is there outranks every other reason to refuse."""
        if not attempts:
            return
        try:
            rows = await self._writer.rows([a.action_id for a in attempts])
        except DbUnavailable:
            # Only the ledger can tell whether these were used.
            for attempt in attempts:
                attempt.answer = DbUnavailable()
            return
        used = [a for a in attempts if a.action_id in rows]
        await self._repeat(used, [rows[a.action_id] for a in used])
        for attempt in attempts:
            if attempt.granted and attempt.answer is None:
                attempt.answer = from_proto(attempt.verified.failure)

    async def _judge(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        request = fraud_pb2.JudgeRequest()
        for attempt in attempts:
            request.items.add(
                attempt_id=attempt.item.attempt.attempt_id,
                verified=attempt.verified,
                granted=attempt.granted,
            )
        try:
            reply = await self._fraud.Judge(request, timeout=JUDGE_S)
        except Failed as failed:
            # What must never pass without it, actions has checked. The award goes on and is
            # judged from the event stream.
            log.warning("judgement_missing", code=failed.code, attempts=len(attempts))
        else:
            for place, verdict in reply.verdicts.items():
                attempts[place].verdict = verdict
        for attempt in attempts:
            attempt.answer = _refused(attempt)

    async def _close(self, attempts: Sequence[Attempt]) -> None:
        if attempts:
            await self._telling.settle([a.action_id for a in attempts], awarded=False)

    async def _write(self, attempts: Sequence[Attempt], received_at_ms: int) -> None:
        if not attempts:
            return
        claims = [_claim(a) for a in attempts]
        results = await self._writer.write(claims, received_at_ms=received_at_ms)
        fresh: list[int] = []
        repeated: list[int] = []
        for at, result in enumerate(results):
            if isinstance(result, Failed):
                attempts[at].answer = result
            else:
                (fresh if result.outcome == "inserted" else repeated).append(at)
        rows: list[Row] = results  # type: ignore[assignment]
        if fresh:
            answers = await self._telling.tell(
                [claims[at] for at in fresh], [rows[at] for at in fresh]
            )
            for at, answer in zip(fresh, answers, strict=True):
                attempts[at].answer = answer
        if repeated:
            await self._repeat([attempts[at] for at in repeated], [rows[at] for at in repeated])

    async def _repeat(self, attempts: Sequence[Attempt], rows: Sequence[Row]) -> None:
        """Answers attempts whose action has a row by what that row says."""
        for attempt, row in zip(attempts, rows, strict=True):
            attempt.answer = conflict(attempt.item, row, points=attempt.verified.points)
        same = [(a, row) for a, row in zip(attempts, rows, strict=True) if a.answer is None]
        if same:
            receipts = await self._receipts([row.action_id for _, row in same])
            for attempt, row in same:
                attempt.answer = render(row, receipts.get(row.action_id))

    async def _receipts(self, action_ids: Sequence[str]) -> dict[str, Receipt]:
        """The receipts, given a moment to be written. An award needs none to be answered."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RECEIPT_S
        receipts: dict[str, Receipt] = {}
        try:
            while True:
                receipts = await self._ledger.receipts(action_ids)
                if len(receipts) == len(set(action_ids)) or loop.time() >= until:
                    return receipts
                await asyncio.sleep(0.02)
        except DbUnavailable as error:
            log.warning("receipts_away", error=repr(error))
            return receipts

    def _report(self, attempts: Sequence[Attempt]) -> None:
        """A token of one's own that was redeemed before, and no repeat of that request."""
        if attempts:
            now_ms = clock.now_ms()
            self._findings.report(
                [
                    replay(
                        action_id=a.action_id,
                        attempt_id=a.item.attempt.attempt_id,
                        user_id=a.item.attempt.user_id,
                        action_type=a.verified.sealed.action_type,
                        at_ms=now_ms,
                    )
                    for a in attempts
                ]
            )


def _refused(attempt: Attempt) -> Failed | None:
    """Why this attempt ends here; None: it goes on to the ledger."""
    verdict = attempt.verdict
    if attempt.refusal:
        failed = from_proto(attempt.verified.failure)
        if verdict is not None:
            failed.reference = verdict.decision_id
        return failed
    if verdict is None:
        return None
    banned = verdict.sanction.kind == fraud_pb2.Sanction.BANNED
    if banned or verdict.decision == fraud_pb2.Verdict.BAN:
        return AccountBanned(reference=verdict.decision_id)
    if verdict.decision == fraud_pb2.Verdict.REJECT:
        return SuspiciousActivity(reference=verdict.decision_id)
    return None


def _closes(attempt: Attempt) -> bool:
    """This refusal closes the action: by what Verify found, or by a verdict."""
    if not isinstance(attempt.answer, Failed) or attempt.granted:
        return False
    if attempt.refusal:
        return attempt.verified.closes and attempt.answer.code == attempt.refusal
    return isinstance(attempt.answer, SuspiciousActivity)


def _claim(attempt: Attempt) -> Claim:
    item, sealed = attempt.item, attempt.verified.sealed
    return Claim(
        sealed.action_id,
        sealed.user_id,
        item.username,
        item.name_version,
        sealed.action_type,
        attempt.verified.points,
        item.attempt.attempt_id,
        item.attempt.grant.client_id if attempt.granted else None,
        item.key_hash or None,
        item.body_hash or None,
        _under_review(attempt.verdict),
    )


def _under_review(verdict: fraud_pb2.Verdict | None) -> bool:
    return verdict is not None and (
        verdict.decision == fraud_pb2.Verdict.FLAG
        or verdict.sanction.kind == fraud_pb2.Sanction.FLAGGED
    )
