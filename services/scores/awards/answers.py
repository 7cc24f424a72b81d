"""What an attempt is answered: failures, and the one rendering of an award."""

from chassis.errors import Failed, Forbidden, Invalid, Missing, Unavailable, Unprocessable
from protos import actions_pb2, scores_pb2
from services.scores.awards.records import Receipt
from services.scores.boards.changes import Row


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
    """The database is away; this award is kept and will be applied once."""


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


def conflict(item: scores_pb2.AwardItem, row: Row, *, points: int) -> Failed | None:
    """Why an attempt at an action that has a row is refused; None: it is the same request.

    `points` is what the attempt was found worth; 0 where it was refused.
    """
    if row.attempt_id == item.attempt.attempt_id:
        return None
    if item.attempt.HasField("grant"):
        return None if _same_grant(item, row, points) else IdempotencyKeyReused()
    if item.key_hash and row.key_hash == item.key_hash:
        return None if row.body_hash == item.body_hash else IdempotencyKeyReused()
    return TokenAlreadyUsed()


def _same_grant(item: scores_pb2.AwardItem, row: Row, points: int) -> bool:
    """The same game server says the same again: for it the action's id is the key."""
    grant = item.attempt.grant
    if row.client_id != grant.client_id:
        return False
    if item.body_hash and row.body_hash == item.body_hash:
        return True
    return (row.user_id, row.action_type, row.points) == (
        grant.user_id,
        grant.action_type,
        _stated(grant, points),
    )


def _stated(grant: actions_pb2.Grant, points: int) -> int:
    return grant.score_increment if grant.HasField("score_increment") else points
