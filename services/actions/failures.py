"""Every way an action, its token or its proof is refused: the class name is the code."""

from chassis.clock import rfc3339
from chassis.errors import Conflict, FieldError, Forbidden, Invalid, Missing, TooMany, Unprocessable


class TokenInvalid(Invalid):
    """This is not an action token of ours."""


class TokenMismatch(Forbidden):
    """This action token belongs to another player or another action."""


class TokenExpired(Invalid):
    """The action token is past its time."""

    def __init__(self, expires_at_ms: int) -> None:
        at = rfc3339(expires_at_ms)
        super().__init__(f"The action token expired at {at}.", facts={"expiredAt": at})


class ActionNotFound(Missing):
    """There is no such action."""


class ActionCompleted(Conflict):
    """The action was completed before."""


class ActionClosed(Conflict):
    """The action was closed by a refusal, or given up."""


class TimestampOutOfRange(Invalid):
    """The timestamp must be RFC 3339, at most 60 s old and at most 5 s ahead."""

    def __init__(self, *, now_ms: int, earliest_ms: int, latest_ms: int) -> None:
        now, earliest, latest = map(rfc3339, (now_ms, earliest_ms, latest_ms))
        super().__init__(
            f"It is {now}: the timestamp must be RFC 3339, from {earliest} to {latest}.",
            facts={"serverTime": now, "earliest": earliest, "latest": latest},
        )


class ScoreOutOfRange(Unprocessable):
    """No action is worth that many points."""

    def __init__(self, name: str, value: int, *, least: int, most: int) -> None:
        """`value` is what was stated or computed, and `name` says which it is."""
        super().__init__(
            f"The {name} number is {value}; it must be {least} to {most}.",
            facts={name: value, "min": least, "max": most},
        )


class ScoreMismatch(Forbidden):
    """The action is not worth that many points."""

    def __init__(self, *, stated: int, expected: int) -> None:
        super().__init__(
            f"The action is worth {expected} points; {stated} were stated.",
            facts={"stated": stated, "expected": expected},
        )


class SignatureInvalid(Forbidden):
    """The signature or checksum is wrong."""


class ProofRequired(Unprocessable):
    """The action needs a proof, now or by an earlier call to complete it."""


class SuspiciousActivity(Invalid):
    """The times of the play are outside their bounds."""

    def __init__(self, *, bound: str, limit_ms: int, claimed_ms: int, elapsed_ms: int) -> None:
        """`bound` is minDurationMs, maxDurationMs, or elapsedMs: that and a tolerance is the
        limit then."""
        if bound == "elapsedMs":
            against = (
                f"above the elapsed time of {elapsed_ms} ms and {limit_ms - elapsed_ms} ms more"
            )
        else:
            side = "above" if claimed_ms > limit_ms else "below"
            against = f"{side} {bound}, {limit_ms} ms"
        is_claim = bound != "minDurationMs" or claimed_ms < limit_ms
        time = f"claimed time of {claimed_ms}" if is_claim else f"elapsed time of {elapsed_ms}"
        super().__init__(
            f"The {time} ms is {against}.",
            facts={
                "bound": bound,
                "limitMs": limit_ms,
                "claimedMs": claimed_ms,
                "elapsedMs": elapsed_ms,
            },
        )


class TooManyPending(TooMany):
    """Too many action tokens are open; redeem one, give one up, or let it expire."""

    def __init__(self, *, open_max: int, retry_after_s: int) -> None:
        super().__init__(
            f"At most {open_max} action tokens may be open: redeem one, give one up,"
            " or let it expire.",
            retry_after_s=retry_after_s,
            facts={"maxOpen": open_max},
        )


class DailyCapReached(TooMany):
    """This action type was requested as often as a day allows."""

    def __init__(self, *, cap: int, resets_at_ms: int, retry_after_s: int) -> None:
        at = rfc3339(resets_at_ms)
        super().__init__(
            f"This action type can be requested {cap} times a day; the next one begins at {at}.",
            retry_after_s=retry_after_s,
            facts={"dailyCap": cap, "resetsAt": at},
        )


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
