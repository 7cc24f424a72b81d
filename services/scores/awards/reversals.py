"""Voids awards and restores voided ones."""

from collections.abc import Sequence
from dataclasses import replace

from chassis.errors import Missing
from chassis.ids import is_uuid
from chassis.telemetry import log
from protos import scores_pb2
from services.scores.awards.publish import Publisher
from services.scores.awards.records import Reversal
from services.scores.awards.store import LedgerStore
from services.scores.boards.changes import Change
from services.scores.boards.rules import check_fields, moment

ROWS_MAX = 1000  # of one call
ACTIONS_MAX = 1000
TEXT_MAX = 500
_MOMENT_MS_MAX = 253_402_300_799_999  # the end of the year 9999


class PlayerNotFound(Missing):
    """There is no such player on the ledger."""


class Reversals:
    """Writes compensating rows, at most 1000 a call, and moves the boards at once."""

    def __init__(self, ledger: LedgerStore, publisher: Publisher) -> None:
        self._ledger = ledger
        self._publisher = publisher

    async def reverse(self, request: scores_pb2.ReverseRequest) -> scores_pb2.ReverseReply:
        """Does what is ordered; for a dry run returns what it would do.

        Raises ValidationFailed, PlayerNotFound, ScoreOutOfRange and DbUnavailable.
        """
        _check(request)
        total = await self._ledger.total(request.user_id)
        if total is None:
            raise PlayerNotFound
        order = _order(request)
        if order.dry_run:
            found = await self._ledger.reverse(order, limit=ROWS_MAX + 1)
            changes, more = found[:ROWS_MAX], len(found) > ROWS_MAX
        else:
            changes = await self._ledger.reverse(order, limit=ROWS_MAX)
            _log(order, changes)
            await self._publisher.publish_changes(changes)
            rest = replace(order, dry_run=True)
            more = len(changes) == ROWS_MAX and bool(await self._ledger.reverse(rest, limit=1))
        return scores_pb2.ReverseReply(
            rows=[_row(change) for change in changes],
            more=more,
            old_score=changes[0].old_score if changes else total,
            new_score=changes[-1].new_score if changes else total,
            dry_run=request.dry_run,
        )


def _check(request: scores_pb2.ReverseRequest) -> None:
    """Raises ValidationFailed with every field that does not fit."""
    times = [request.from_ms] if request.HasField("from_ms") else []
    times += [request.to_ms] if request.HasField("to_ms") else []
    times_fit = all(0 <= at_ms <= _MOMENT_MS_MAX for at_ms in times)
    times_fit = times_fit and (len(times) < 2 or times[0] < times[1])
    actions = request.action_ids
    actions_fit = len(actions) <= ACTIONS_MAX and all(map(is_uuid, actions))
    order = "must be after from, and both between the years 1970 and 9999"
    text = f"must be 1 to {TEXT_MAX} characters"
    check_fields(
        (1 <= len(request.reason) <= TEXT_MAX, "reason", "INVALID", text),
        (1 <= len(request.actor) <= TEXT_MAX, "actor", "INVALID", text),
        (is_uuid(request.user_id), "userId", "INVALID", "must be a lower-case UUID"),
        (actions_fit, "actionIds", "INVALID", f"must be at most {ACTIONS_MAX} lower-case UUIDs"),
        (times_fit, "to", "INVALID", order),
    )


def _order(request: scores_pb2.ReverseRequest) -> Reversal:
    return Reversal(
        kind="void" if request.kind == scores_pb2.ReverseRequest.VOID else "restore",
        user_id=request.user_id,
        start=moment(request.from_ms) if request.HasField("from_ms") else None,
        end=moment(request.to_ms) if request.HasField("to_ms") else None,
        action_ids=list(request.action_ids) or None,
        reason=request.reason,
        actor=request.actor,
        dry_run=request.dry_run,
    )


def _log(order: Reversal, changes: Sequence[Change]) -> None:
    """Why it was ordered stands in the ledger, since people write there what they like."""
    log.info(
        "awards_voided" if order.kind == "void" else "awards_restored",
        stream="audit",
        actor=order.actor,
        user_id=order.user_id,
        rows=len(changes),
        points=sum(change.points for change in changes),
    )


def _row(change: Change) -> scores_pb2.LedgerRow:
    return scores_pb2.LedgerRow(
        action_id=change.event_id,
        kind=change.kind,
        origin_id=change.origin_id,
        action_type=change.action_type,
        points=change.points,
        old_score=change.old_score,
        new_score=change.new_score,
        version=change.version,
        at_ms=change.at_ms,
    )
