"""The award: from a token to a ledger row, its ranks and its answer, a batch at a time.

    Actions.Verify ──> Fraud.Judge ──> ledger (one transaction) ──> boards ──> answer
                                                                       └─> event, receipt, Settle

A batch travels as one unit; one bad item never fails its neighbours. The ledger row
alone decides whether a token is used. What happens after the answer may be lost with
the process: the relay does it again from the outbox.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from chassis.errors import Failed, Internal, from_proto
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from protos import actions_pb2, fraud_pb2, scores_pb2
from protos.actions_pb2_grpc import ActionsStub
from protos.fraud_pb2_grpc import FraudStub
from services.scores.answers import (
    AccountBanned,
    AwardNotFound,
    ScoreOutOfRange,
    SuspiciousActivity,
    conflict,
    render,
)
from services.scores.boards import Boards, Ranks
from services.scores.events import Events, award_change
from services.scores.store.ledger import Claim, Ledger, Receipt, Row, ScoreRange

JUDGE_S = 0.5
SETTLE_S = 0.2  # how long a refusal waits for its action to be closed
RECEIPT_S = 0.3  # how long a repeat waits for the receipt of an award just made
UNRANKED = Ranks(None, None)


@dataclass(slots=True)
class Attempt:
    """One item on its way; `answer` is set once it is decided."""

    item: scores_pb2.AwardItem
    verified: actions_pb2.VerifyResult
    verdict: fraud_pb2.Verdict | None = None
    answer: scores_pb2.Award | Failed | None = None

    @property
    def action_id(self) -> str:
        return self.verified.sealed.action_id

    @property
    def refusal(self) -> str:
        """The code Verify refused with; empty when it did not."""
        return self.verified.failure.code

    @property
    def own(self) -> bool:
        """The token is authentic, and of the player who shows it."""
        return self.verified.HasField("sealed") and self.refusal != "TOKEN_MISMATCH"


class Awards:
    """The pipeline over the ledger, the boards, and the two services it asks."""

    def __init__(
        self,
        ledger: Ledger,
        boards: Boards,
        events: Events,
        *,
        actions: ActionsStub,
        fraud: FraudStub,
    ) -> None:
        self._ledger = ledger
        self._boards = boards
        self._events = events
        self._actions = actions
        self._fraud = fraud
        self._afterwards: set[asyncio.Task[None]] = set()

    async def award(self, items: Sequence[scores_pb2.AwardItem]) -> list[scores_pb2.Award | Failed]:
        """The award of each item, or why there is none. Each action is awarded at most once."""
        attempts = await self._verify(items)
        await self._find_used([a for a in attempts if a.own and a.refusal])
        await self._judge([a for a in attempts if a.own and a.answer is None])
        await self._close([a for a in attempts if _closes(a)])
        await self._write([a for a in attempts if a.answer is None])
        return [a.answer or Internal() for a in attempts]

    async def receipt(self, user_id: str, action_id: str) -> scores_pb2.Award:
        """The award as it was answered. Raises AwardNotFound, also for another player's."""
        row = (await self._ledger.rows([action_id])).get(action_id)
        if row is None or row.user_id != user_id:
            raise AwardNotFound
        return render(row, (await self._receipts([action_id])).get(action_id))

    async def settle(self, action_ids: Sequence[str], *, awarded: bool) -> bool:
        """Tells actions what became of them; whether it has heard."""
        settlements = [actions_pb2.Settlement(action_id=i, awarded=awarded) for i in action_ids]
        try:
            await self._actions.Settle(
                actions_pb2.SettleRequest(settlements=settlements),
                timeout=2.0 if awarded else SETTLE_S,
            )
        except Failed as failed:
            log.warning("settlement_failed", code=failed.code, actions=len(action_ids))
            return False
        return True

    async def drain(self) -> None:
        """Returns when all that follows the answers given is done."""
        while self._afterwards:
            await asyncio.wait(self._afterwards)

    async def _verify(self, items: Sequence[scores_pb2.AwardItem]) -> list[Attempt]:
        reply = await self._actions.Verify(
            actions_pb2.VerifyRequest(
                items=[
                    actions_pb2.VerifyItem(
                        attempt_id=item.attempt_id,
                        user_id=item.user_id,
                        action_token=item.action_token,
                        claims=item.claims,
                    )
                    for item in items
                ]
            )
        )
        attempts = [Attempt(item, v) for item, v in zip(items, reply.results, strict=True)]
        for attempt in attempts:
            if attempt.refusal and not attempt.own:
                attempt.answer = from_proto(attempt.verified.failure)
        return attempts

    async def _find_used(self, attempts: Sequence[Attempt]) -> None:
        """A row that is there outranks every other reason to refuse."""
        if not attempts:
            return
        rows = await self._ledger.rows([a.action_id for a in attempts])
        used = [a for a in attempts if a.action_id in rows]
        await self._repeat(used, [rows[a.action_id] for a in used])

    async def _judge(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        items = [
            fraud_pb2.JudgeItem(
                attempt_id=a.item.attempt_id,
                action_id=a.action_id,
                user_id=a.item.user_id,
                action_type=a.verified.sealed.action_type,
                points=a.verified.sealed.score_increment,
                accepted=not a.refusal,
                refusal=a.refusal,
                elapsed_ms=a.verified.elapsed_ms,
                claimed_ms=_optional(a.verified, "claimed_ms"),
                min_duration_ms=_optional(a.verified, "min_duration_ms"),
                max_duration_ms=_optional(a.verified, "max_duration_ms"),
            )
            for a in attempts
        ]
        try:
            reply = await self._fraud.Judge(fraud_pb2.JudgeRequest(items=items), timeout=JUDGE_S)
        except Failed as failed:
            # What must never pass without it, actions has checked. The award goes on and is
            # judged from the event stream.
            log.warning("judgement_missing", code=failed.code, attempts=len(attempts))
            verdicts: Sequence[fraud_pb2.Verdict | None] = [None] * len(attempts)
        else:
            verdicts = reply.verdicts
        for attempt, verdict in zip(attempts, verdicts, strict=True):
            attempt.verdict = verdict
            attempt.answer = _refused(attempt)

    async def _close(self, attempts: Sequence[Attempt]) -> None:
        if attempts:
            await self.settle([a.action_id for a in attempts], awarded=False)

    async def _write(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        try:
            results = await self._ledger.award([_claim(a) for a in attempts])
        except DbUnavailable as error:
            log.error("ledger_away", error=repr(error.__cause__), awards=len(attempts))
            raise
        fresh: list[tuple[Attempt, Row]] = []
        repeated: list[tuple[Attempt, Row]] = []
        for attempt, row in zip(attempts, results, strict=True):
            if isinstance(row, ScoreRange):
                attempt.answer = ScoreOutOfRange()
            else:
                (fresh if row.outcome == "inserted" else repeated).append((attempt, row))
        if fresh:
            await self._tell(fresh)
        await self._repeat([a for a, _ in repeated], [row for _, row in repeated])

    async def _tell(self, fresh: Sequence[tuple[Attempt, Row]]) -> None:
        """Moves the boards, answers, and leaves the rest to happen after the answer."""
        named = await self._renamed(fresh)
        rows = [row for _, row in named]
        try:
            ranks = await self._boards.apply(rows)
            told = True
        except (RedisError, OSError, DbUnavailable) as error:
            # The awards are written: whatever ails the boards, they are answered.
            log.warning("boards_away", error=repr(error))
            ranks, told = [UNRANKED] * len(rows), False
        receipts = []
        for (attempt, row), rank in zip(named, ranks, strict=True):
            receipt = _receipt(attempt, row, rank)
            receipts.append(receipt)
            attempt.answer = render(row, receipt)
        task = asyncio.create_task(self._after(rows, ranks, receipts, told=told))
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    async def _renamed(self, fresh: Sequence[tuple[Attempt, Row]]) -> Sequence[tuple[Attempt, Row]]:
        """The rows under the newest name; keeps the names of players who are new or renamed."""
        newer = {
            row.user_id: (attempt.item.username, attempt.item.name_version)
            for attempt, row in fresh
            if attempt.item.name_version > row.name_version
        }
        names = {row.user_id: row.username for _, row in fresh if row.version == 1}
        names |= {user: name for user, (name, _) in newer.items()}
        try:
            if newer:
                await self._ledger.rename([(u, n, v) for u, (n, v) in newer.items()])
            await self._boards.name(names)
        except (RedisError, OSError, DbUnavailable) as error:
            log.warning("names_not_kept", error=repr(error))
        return [
            (a, replace(row, username=names.get(row.user_id, row.username))) for a, row in fresh
        ]

    async def _after(
        self,
        rows: Sequence[Row],
        ranks: Sequence[Ranks],
        receipts: Sequence[Receipt],
        *,
        told: bool,
    ) -> None:
        try:
            changes = [award_change(row) for row in rows]
            if told:
                await self._events.publish(changes, ranks)
            settled = await self.settle([row.action_id for row in rows], awarded=True)
            if told:
                await self._ledger.acknowledge(changes, receipts, settled=settled)
        except (RedisError, OSError, DbUnavailable) as error:
            log.warning("acknowledgement_left_to_relay", error=repr(error), awards=len(rows))

    async def _repeat(self, attempts: Sequence[Attempt], rows: Sequence[Row]) -> None:
        """Answers attempts whose action has a row by what that row says."""
        for attempt, row in zip(attempts, rows, strict=True):
            attempt.answer = conflict(attempt.item, row)
        same = [(a, row) for a, row in zip(attempts, rows, strict=True) if a.answer is None]
        if same:
            receipts = await self._receipts([row.action_id for _, row in same])
            for attempt, row in same:
                attempt.answer = render(row, receipts.get(row.action_id))

    async def _receipts(self, action_ids: Sequence[str]) -> dict[str, Receipt]:
        """The receipts, given a moment to be written."""
        receipts = await self._ledger.receipts(action_ids)
        until = asyncio.get_running_loop().time() + RECEIPT_S
        while len(receipts) < len(set(action_ids)) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
            receipts = await self._ledger.receipts(action_ids)
        return receipts


def _receipt(attempt: Attempt, row: Row, ranks: Ranks) -> Receipt:
    warnings = []
    verdict = attempt.verdict
    if verdict is not None and (
        verdict.decision == fraud_pb2.Verdict.FLAG
        or verdict.sanction.kind == fraud_pb2.Sanction.FLAGGED
    ):
        warnings.append("UNDER_REVIEW")
    if ranks.new is None and not row.hidden:
        warnings.append("RANK_UNAVAILABLE")
    return Receipt(ranks.new, ranks.old, tuple(warnings), row.hidden)


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
    if not isinstance(attempt.answer, Failed) or not attempt.own:
        return False
    return attempt.verified.closes or isinstance(attempt.answer, SuspiciousActivity)


def _claim(attempt: Attempt) -> Claim:
    item, sealed = attempt.item, attempt.verified.sealed
    return Claim(
        action_id=sealed.action_id,
        user_id=sealed.user_id,
        username=item.username,
        name_version=item.name_version,
        action_type=sealed.action_type,
        points=sealed.score_increment,
        attempt_id=item.attempt_id,
        client_id=item.grant.client_id or None,
        key_hash=item.key_hash or None,
        body_hash=item.body_hash or None,
    )


def _optional(verified: actions_pb2.VerifyResult, name: str) -> int | None:
    value: int | None = getattr(verified, name) if verified.HasField(name) else None
    return value
