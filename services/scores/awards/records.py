"""What passes through the room: attempts and awards by step, receipts, reversals, sanctions; and
what an attempt is answered: its failures, and the one rendering of an award."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from chassis.errors import Conflict, Failed, Forbidden, Invalid, Missing, Unavailable, Unprocessable
from protos import actions_pb2, scores_pb2
from services.scores.boards.changes import Change, Row

Answer = scores_pb2.Award | Failed
Answers = dict[int, Answer]  # by place in the batch


class Verified(NamedTuple):
    """An item and what Verify found: the claims of its token, and why it is refused, if it is."""

    item: scores_pb2.AwardItem
    found: actions_pb2.VerifyResult

    @property
    def action_id(self) -> str:
        """Empty where the token is not authentic."""
        return self.found.sealed.action_id

    @property
    def granted(self) -> bool:
        """A game server's, without a token."""
        return self.item.attempt.HasField("grant")

    @property
    def refused(self) -> bool:
        """Verify found a reason to refuse it."""
        return self.found.HasField("failure")

    @property
    def own(self) -> bool:
        """The token is authentic and of the player who shows it, or the grant names an action."""
        return not self.found.mismatch and self.action_id != ""


class Judged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A verified award that was not refused: what is to be written."""

    action_id: str
    user_id: str
    username: str
    name_version: int
    action_type: str
    points: int
    attempt_id: str
    client_id: str | None = None  # the game server that grants it
    key_hash: bytes | None = None
    body_hash: bytes | None = None
    under_review: bool = False  # a warning of the answer, not written


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What was answered beside the ledger row."""

    rank: int | None = None
    old_rank: int | None = None
    warnings: tuple[str, ...] = ()
    held: bool = False


class Outstanding(Change, frozen=True, kw_only=True, gc=False):
    """A change in the outbox; `published`: only its settlement is outstanding."""

    published: bool


class Sanction(NamedTuple):
    """Whether a player is hidden, by the sanction of that version."""

    user_id: str
    hidden: bool
    version: int


class Incident(NamedTuple):
    """A token shown again after it was redeemed. `at_ms` is Unix time."""

    incident_id: str
    user_id: str
    action_id: str
    action_type: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """To void or restore awards of a player: those made in [start, end), those named, or all."""

    kind: str  # void, restore
    user_id: str
    start: datetime | None = None
    end: datetime | None = None
    action_ids: Sequence[str] | None = None
    reason: str
    actor: str
    dry_run: bool = False


class TokenAlreadyUsed(Invalid):
    """This action token has been redeemed before."""


class ActionClosed(Conflict):
    """The action was given up."""


class IdempotencyKeyReused(Unprocessable):
    """This idempotency key, or the id of this action, came before with other contents."""


class ScoreOutOfRange(Unprocessable):
    """No award is worth less than 1, and none takes a score beyond 9007199254740991 either way."""

    def __init__(self) -> None:
        most = 2**53 - 1
        super().__init__(
            f"This award would take the score beyond what a score can be, ±{most}.",
            facts={"min": -most, "max": most},
        )


class SuspiciousActivity(Invalid):
    """This attempt was refused."""


class AccountBanned(Forbidden):
    """This account is banned."""


class AwardNotFound(Missing):
    """There is no award for this action."""


class QueuedForReplay(Unavailable):
    """The database is unavailable; this award is kept and will be applied once."""


def render(row: Row, receipt: Receipt) -> scores_pb2.Award:
    """The answer to an award and to every repeat of it."""
    return scores_pb2.Award(
        action_id=row.action_id,
        user_id=row.user_id,
        old_score=row.old_score,
        new_score=row.new_score,
        score_increment=row.points,
        old_rank=receipt.old_rank,
        rank=receipt.rank,
        version=row.version,
        at_ms=row.at_ms,
        warnings=receipt.warnings,
        held=receipt.held,
    )
