"""What an attempt is answered: its failures, and the one rendering of an award."""

from chassis.errors import Failed, Forbidden, Invalid, Missing, Unavailable, Unprocessable
from protos import scores_pb2
from services.scores.awards.records import Receipt
from services.scores.boards.changes import Row

Answer = scores_pb2.Award | Failed
Answers = dict[int, Answer]  # by place in the batch


class TokenAlreadyUsed(Invalid):
    """This action token has been redeemed before."""


class IdempotencyKeyReused(Unprocessable):
    """This idempotency key, or the id of this action, came before with other contents."""


class ScoreOutOfRange(Unprocessable):
    """This award would take the score beyond what a score can be."""


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
