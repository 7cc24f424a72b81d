"""Repeats: what an attempt at an action that already has a ledger row is answered."""

import asyncio
from collections.abc import Mapping, Sequence

from chassis.errors import Failed
from chassis.postgres import DbUnavailable
from chassis.telemetry import log
from protos import scores_pb2
from services.scores.awards.records import (
    ActionClosed,
    Answers,
    AwardNotFound,
    IdempotencyKeyReused,
    Receipt,
    TokenAlreadyUsed,
    Verified,
    render,
)
from services.scores.awards.store import LedgerStore
from services.scores.awards.write import Breaker, within
from services.scores.boards.changes import Row

READ_S = 1.0
RECEIPT_S = 0.3  # how long a repeat waits for the receipt of an award just made
POLL_S = 0.02
NO_RECEIPT = Receipt(warnings=("RANK_UNAVAILABLE",))


class Repeats:
    """Reads the ledger for attempts and receipts, at once unavailable while the breaker is open."""

    def __init__(self, ledger: LedgerStore, breaker: Breaker) -> None:
        self._ledger = ledger
        self._breaker = breaker

    async def rows(self, action_ids: Sequence[str]) -> dict[str, Row]:
        """The ledger rows of those actions, by id. Raises DbUnavailable."""
        if self._breaker.open:
            raise DbUnavailable
        try:
            return await within(self._ledger.rows(action_ids), READ_S)
        except TimeoutError as error:
            raise DbUnavailable from error

    async def answer(self, attempts: Mapping[int, Verified], rows: Mapping[int, Row]) -> Answers:
        """What each attempt, by place, is answered by its action's row: the award if it is the
        same request, else TokenAlreadyUsed, IdempotencyKeyReused or ActionClosed."""
        answers: Answers = {}
        same: dict[int, Row] = {}
        for at, row in rows.items():
            if conflict := _conflict(attempts[at], row):
                answers[at] = conflict
            else:
                same[at] = row
        if same:
            receipts = await self._receipts([row.action_id for row in same.values()])
            for at, row in same.items():
                award = render(row, receipts.get(row.action_id, NO_RECEIPT))
                # A call that was sent again is no repeat of the caller's request.
                award.repeat = row.attempt_id != attempts[at].item.attempt.attempt_id
                answers[at] = award
        return answers

    async def receipt(self, user_id: str, action_id: str) -> scores_pb2.Award:
        """The award as it was answered. Raises AwardNotFound, also for another player's."""
        row = (await self.rows([action_id])).get(action_id)
        if row is None or row.given_up or row.user_id != user_id:
            raise AwardNotFound
        return render(row, (await self._receipts([action_id])).get(action_id, NO_RECEIPT))

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
                await asyncio.sleep(POLL_S)
        except DbUnavailable as error:
            log.warning("receipts_unavailable", error=repr(error))
            return receipts


def _conflict(attempt: Verified, row: Row) -> Failed | None:
    """Why the attempt is refused; None: it is the request that made the row."""
    item = attempt.item
    if row.attempt_id == item.attempt.attempt_id:
        return None
    if row.given_up:
        return IdempotencyKeyReused() if attempt.granted else ActionClosed()
    if attempt.granted:
        return None if _same_grant(attempt, row) else IdempotencyKeyReused()
    if item.key_hash and row.key_hash == item.key_hash:
        return None if row.body_hash == item.body_hash else IdempotencyKeyReused()
    return TokenAlreadyUsed()


def _same_grant(attempt: Verified, row: Row) -> bool:
    """The same game server repeats its grant: for it the action's id is the key."""
    grant = attempt.item.attempt.grant
    if row.client_id != grant.client_id:
        return False
    if attempt.item.body_hash and row.body_hash == attempt.item.body_hash:
        return True
    # Where it states no points: what Verify found it worth, 0 where that refused it.
    stated = grant.HasField("score_increment")
    points = grant.score_increment if stated else attempt.found.points
    contents = (grant.user_id, grant.action_type, points)
    return contents == (row.user_id, row.action_type, row.points)
