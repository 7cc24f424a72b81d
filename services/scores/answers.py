"""What an attempt is answered: failures, and the one rendering of an award."""

from chassis.errors import Failed, Forbidden, Invalid, Missing, Unprocessable
from protos import scores_pb2
from services.scores.store.ledger import Receipt, Row


class TokenAlreadyUsed(Invalid):
    """This action token has been redeemed before."""


class IdempotencyKeyReused(Unprocessable):
    """This idempotency key came before with another body."""


class ScoreOutOfRange(Unprocessable):
    """This award would take the score beyond what a score can be."""


class SuspiciousActivity(Invalid):
    """This attempt was refused."""


class AccountBanned(Forbidden):
    """This account is banned."""


class AwardNotFound(Missing):
    """There is no award for this action."""


def render(row: Row, receipt: Receipt | None) -> scores_pb2.Award:
    """The answer to an award and to every repeat of it."""
    if receipt is None:
        receipt = Receipt(None, None, ("RANK_UNAVAILABLE",), row.hidden)
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


def conflict(item: scores_pb2.AwardItem, row: Row) -> Failed | None:
    """Why an attempt at an action that has a row is refused; None: it is the same request."""
    if row.attempt_id == item.attempt_id:
        return None
    if item.key_hash and row.key_hash == item.key_hash:
        return None if row.body_hash == item.body_hash else IdempotencyKeyReused()
    return TokenAlreadyUsed()
