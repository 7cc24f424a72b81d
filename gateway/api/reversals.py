"""Voiding awards and restoring voided ones, by compensating rows of the ledger."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, field

from chassis.clock import parse_rfc3339
from chassis.errors import FieldError
from gateway.api.answers import Answer, answer
from gateway.api.claims import Name, UserId
from gateway.api.scores import Row
from gateway.edge.body import Body
from gateway.edge.errors import ValidationFailed
from gateway.edge.request import Request
from protos import scores_pb2
from protos.scores_pb2_grpc import ScoresStub

Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class Reversal(Body, kw_only=True):
    """Which awards of a player: those made in [from, to), those named, or both; else all."""

    user_id: UserId
    since: Name | None = field(default=None, name="from")
    to: Name | None = None
    action_ids: Annotated[list[UserId], Meta(max_length=1000)] = field(default_factory=list)
    reason: Reason
    dry_run: bool


class Reversed(Answer):
    """The rows that were written, or on a dry run would be; `more`: call again for the rest."""

    user_id: str
    dry_run: bool
    old_score: int
    new_score: int
    rows: list[Row]
    more: bool


class Reversals:
    """Handlers of voids and restores."""

    def __init__(self, scores: ScoresStub) -> None:
        self._scores = scores

    async def void(self, request: Request, body: Reversal) -> Reversed:
        """Voids awards of a player."""
        return await self._reverse(request, body, scores_pb2.ReverseRequest.VOID)

    async def restore(self, request: Request, body: Reversal) -> Reversed:
        """Restores voided awards of a player."""
        return await self._reverse(request, body, scores_pb2.ReverseRequest.RESTORE)

    async def _reverse(
        self, request: Request, body: Reversal, kind: scores_pb2.ReverseRequest.Kind
    ) -> Reversed:
        times = _times_ms({"from": body.since, "to": body.to})
        wanted = scores_pb2.ReverseRequest(
            kind=kind,
            user_id=body.user_id,
            from_ms=times.get("from"),
            to_ms=times.get("to"),
            action_ids=body.action_ids,
            reason=body.reason,
            actor=request.caller.user_id,
            dry_run=body.dry_run,
        )
        found = await self._scores.Reverse(wanted)
        rows = [answer(Row, written) for written in found.rows]
        return answer(Reversed, found, user_id=body.user_id, rows=rows)


def _times_ms(given: Mapping[str, str | None]) -> dict[str, int]:
    """Unix milliseconds of the RFC 3339 times that are given, by their fields. Raises
    ValidationFailed with every one that is none."""
    times, faults = {}, []
    for name, text in given.items():
        try:
            if text is not None:
                times[name] = parse_rfc3339(text)
        except ValueError:
            faults.append(FieldError(name, "INVALID", "A time as RFC 3339 has it."))
    if faults:
        raise ValidationFailed(errors=faults)
    return times
