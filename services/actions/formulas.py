"""The formulas that action types may compute their points by, from a proof.

    evidence_points   evidence {"points": n}              n
    ratio             evidence {"part": p, "whole": w}    min + (max - min) · p ÷ w
    time_bonus        completion time t                   min + (max - min) · (slowest - t)
                                                              ÷ (slowest - fastest)

min and max are the type's range of points, fastest and slowest its durations. All numbers are
integers and ÷ rounds down. A formula is pure: the same proof of the same type always gives the
same points, so that a client can compute, and sign, what it will be awarded. Evidence may hold
more than a formula reads.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chassis.errors import FieldError
from services.actions.failures import ScoreOutOfRange, ValidationFailed


class Span(NamedTuple):
    """The ranges of an action type, ends included."""

    points_min: int
    points_max: int
    fastest_ms: int
    slowest_ms: int

    def scaled(self, part: int, whole: int) -> int:
        """The points at `part` of `whole`, from points_min at 0 on."""
        return self.points_min + (self.points_max - self.points_min) * part // whole


def _evidence_points(span: Span, evidence: bytes, completion_ms: int) -> int:
    [points] = _integers(_object(evidence), "points")
    if not span.points_min <= points <= span.points_max:
        raise ScoreOutOfRange("computed", points, least=span.points_min, most=span.points_max)
    return points


def _ratio(span: Span, evidence: bytes, completion_ms: int) -> int:
    part, whole = _integers(_object(evidence), "part", "whole")
    if whole < 1:
        raise ValidationFailed(errors=[_lacking("whole", "must be at least 1")])
    if not 0 <= part <= whole:
        raise ScoreOutOfRange("part", part, least=0, most=whole)
    return span.scaled(part, whole)


def _time_bonus(span: Span, evidence: bytes, completion_ms: int) -> int:
    width_ms = span.slowest_ms - span.fastest_ms
    if not width_ms:
        return span.points_max
    # A time outside its bounds is refused as such, by the check that follows.
    left_ms = min(max(span.slowest_ms - completion_ms, 0), width_ms)
    return span.scaled(left_ms, width_ms)


# Each computes the points of a proof, within the span, from its evidence (canonical JSON, or
# empty) and completion time. Raises ValidationFailed naming the field where the evidence lacks
# what the formula reads, ScoreOutOfRange where the result leaves the span.
FORMULAS: Mapping[str, Callable[[Span, bytes, int], int]] = {
    "evidence_points": _evidence_points,
    "ratio": _ratio,
    "time_bonus": _time_bonus,
}


def _object(evidence: bytes) -> dict[str, Any]:
    try:
        stated = json.loads(evidence) if evidence else None
    except (ValueError, RecursionError):
        stated = None
    if not isinstance(stated, dict):
        raise ValidationFailed(errors=[_lacking("", "must be an object")])
    return stated


def _integers(stated: dict[str, Any], *names: str) -> list[int]:
    """The values of these names. Raises ValidationFailed with every one that is no integer."""
    # A truth value is an integer to Python, and none in JSON.
    if wrong := [name for name in names if type(stated.get(name)) is not int]:
        raise ValidationFailed(errors=[_lacking(name, "must be an integer") for name in wrong])
    return [stated[name] for name in names]


def _lacking(name: str, detail: str) -> FieldError:
    field = f"proof.evidence.{name}" if name else "proof.evidence"
    return FieldError(field, "REQUIRED", detail)
