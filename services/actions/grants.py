"""Grants: what a trusted game server says a player has earned, without token or proof.

Everything is checked in memory, so that grants go on while Postgres is unavailable. That one action
id is awarded once is the ledger's business, as with tokens.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from chassis.errors import Failed, FieldError, Forbidden, Unavailable
from chassis.ids import is_uuid, is_uuid7
from chassis.postgres import DbUnavailable
from protos.actions_pb2 import Grant
from services.actions.catalogue import ActionType, Catalogue
from services.actions.failures import (
    ActionTypeUnknown,
    ScoreMismatch,
    ScoreOutOfRange,
    ValidationFailed,
)

OLD_MS_MAX = 24 * 3600 * 1000
AHEAD_MS_MAX = 5_000
STORE_WAIT_S = 1.0  # for a type that is not known, and may be new


class Granted(NamedTuple):
    """What became of a grant."""

    grant: Grant
    points: int = 0
    failure: Failed | None = None
    named: bool = True  # it names an action and a player, to be looked up in the ledger


class Grants:
    """Judges grants. Nothing of an accepted one is kept."""

    def __init__(self, catalogue: Catalogue, *, points_max: int) -> None:
        self._catalogue = catalogue
        self._points_max = points_max

    async def verify(self, grants: Sequence[Grant], *, now_ms: int) -> list[Granted]:
        """What each is worth, or why it is refused. I/O only for types not known."""
        unknown: Failed = ActionTypeUnknown()
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                await self._catalogue.learn({grant.action_type for grant in grants})
        except (Unavailable, TimeoutError):
            unknown = DbUnavailable()
        return [self._judge(grant, unknown, now_ms) for grant in grants]

    def _judge(self, grant: Grant, unknown: Failed, now_ms: int) -> Granted:
        named = bool(is_uuid7(grant.action_id) and is_uuid(grant.user_id))
        try:
            _check_form(grant, now_ms)
            bounds = self._catalogue.get(grant.action_type)
            if bounds is None:
                raise unknown
            if grant.action_type not in grant.action_types:
                raise Forbidden("This client may not award this action type.")
            return Granted(grant, points=self._points(grant, bounds))
        except Failed as failed:
            return Granted(grant, failure=failed, named=named)

    def _points(self, grant: Grant, bounds: ActionType) -> int:
        stated = grant.HasField("score_increment")
        if bounds.formula and not stated:
            raise ValidationFailed(
                errors=[FieldError("scoreIncrement", "REQUIRED", "must be given")]
            )
        points = grant.score_increment if stated else bounds.points
        least, most = 1, self._points_max
        if bounds.formula:
            least, most = bounds.points_min or 1, min(most, bounds.points_max or most)
        if not least <= points <= most:
            raise ScoreOutOfRange(f"The points must be {least} to {most}.")
        if not bounds.formula and points != bounds.points:
            raise ScoreMismatch
        return points


def _check_form(grant: Grant, now_ms: int) -> None:
    """Raises ValidationFailed."""
    problems = []
    if not is_uuid7(grant.action_id):
        problems.append(FieldError("actionId", "PATTERN", "must be a lower-case UUIDv7"))
    else:
        made_ms = int(grant.action_id[:8] + grant.action_id[9:13], 16)
        if not now_ms - OLD_MS_MAX <= made_ms <= now_ms + AHEAD_MS_MAX:
            detail = "must be at most 24 h old and 5 s ahead"
            problems.append(FieldError("actionId", "OUT_OF_RANGE", detail))
    if not is_uuid(grant.user_id):
        problems.append(FieldError("userId", "PATTERN", "must be a lower-case UUID"))
    if problems:
        raise ValidationFailed(errors=problems)
