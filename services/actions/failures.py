"""Every way an action, its token or its proof is refused: the class name is the code."""

from chassis.errors import Conflict, FieldError, Forbidden, Invalid, Missing, TooMany, Unprocessable


class TokenInvalid(Invalid):
    """This is not an action token of ours."""


class TokenMismatch(Forbidden):
    """This action token belongs to another player or another action."""


class TokenExpired(Invalid):
    """The action token is past its time."""


class ActionNotFound(Missing):
    """There is no such action."""


class ActionCompleted(Conflict):
    """The action was completed before."""


class ActionClosed(Conflict):
    """The action was closed by a refusal."""


class TimestampOutOfRange(Invalid):
    """The timestamp must be RFC 3339, at most 60 s old and at most 5 s ahead."""


class ScoreOutOfRange(Unprocessable):
    """No action is worth that many points."""


class ScoreMismatch(Forbidden):
    """The action is not worth that many points."""


class SignatureInvalid(Forbidden):
    """The signature or checksum is wrong."""


class ProofRequired(Unprocessable):
    """The action needs a proof, now or by an earlier call to complete it."""


class SuspiciousActivity(Invalid):
    """The action was refused."""


class TooManyPending(TooMany):
    """Too many action tokens are open; redeem one or let it expire."""


class DailyCapReached(TooMany):
    """This action type was asked for as often as a day allows."""


class ActionTypeUnknown(Unprocessable):
    """There is no such action type."""

    def __init__(self) -> None:
        super().__init__(errors=[FieldError("actionType", "UNKNOWN", "must be in the catalogue")])


class ActionTypeAuthoritative(Forbidden):
    """Only game servers award this action type."""


class ActionTypeNotFound(Missing):
    """There is no action type of that name."""


class ActionTypeExists(Conflict):
    """There is an action type of that name already."""


class ValidationFailed(Unprocessable):
    """Some fields do not fit."""
