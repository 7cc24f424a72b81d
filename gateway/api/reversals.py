"""Voiding awards and restoring voided ones, by compensating rows of the ledger."""

import re
from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from chassis.errors import FieldError
from gateway.api.answers import Answer
from gateway.api.claims import Name, UserId
from gateway.api.ledger import Row, row
from gateway.edge.body import Body
from gateway.edge.errors import ValidationFailed
from gateway.edge.resources import Request
from protos import scores_pb2

Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]

# RFC 3339, with any number of fraction digits.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Reversal(Body, kw_only=True):
    """Which awards of a player: those made in [from, to), those named, or both; else all."""

    user_id: UserId
    since: Name | None = field(default=None, name="from")
    to: Name | None = None
    action_ids: Annotated[list[UserId], Meta(max_length=1000)] = field(default_factory=list)
    reason: Reason
    dry_run: bool


class Reversed(Answer):
    """The rows that were written, or on a dry run would be; `more`: ask again for the rest."""

    user_id: str
    dry_run: bool
    old_score: int
    new_score: int
    rows: list[Row]
    more: bool


async def void(request: Request, body: Reversal) -> Reversed:
    """Voids awards of a player."""
    return await _reverse(request, body, scores_pb2.ReverseRequest.VOID)


async def restore(request: Request, body: Reversal) -> Reversed:
    """Restores voided awards of a player."""
    return await _reverse(request, body, scores_pb2.ReverseRequest.RESTORE)


async def _reverse(
    request: Request, body: Reversal, kind: scores_pb2.ReverseRequest.Kind
) -> Reversed:
    found = await request.parts.upstreams.scores.Reverse(
        scores_pb2.ReverseRequest(
            kind=kind,
            user_id=body.user_id,
            from_ms=_at_ms(body.since, field="from"),
            to_ms=_at_ms(body.to, field="to"),
            action_ids=body.action_ids,
            reason=body.reason,
            actor=request.identity.user_id,
            dry_run=body.dry_run,
        )
    )
    return Reversed(
        user_id=body.user_id,
        dry_run=found.dry_run,
        old_score=found.old_score,
        new_score=found.new_score,
        rows=[row(written) for written in found.rows],
        more=found.more,
    )


def _at_ms(text: str | None, *, field: str) -> int | None:
    """Unix milliseconds of an RFC 3339 time. Raises ValidationFailed."""
    if text is None:
        return None
    try:
        if (match := _TIME.fullmatch(text)) is None:
            raise ValueError
        day, moment, fraction, zone = match.groups()
        at = datetime.fromisoformat(f"{day}T{moment}{zone.upper()}")
        return round(at.timestamp()) * 1000 + int(f"{(fraction or '.')[1:4]:0<3}")
    except (ValueError, OverflowError):
        error = FieldError(field, "INVALID", "A time as RFC 3339 has it.")
        raise ValidationFailed(errors=[error]) from None
