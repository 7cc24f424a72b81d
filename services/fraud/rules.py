"""The rules: pure functions from a fact to a reason.

Facts are stored beside their verdict: `reason(fact)` returns the same reason again as long as
the version of the rule is the same.
"""

from enum import IntEnum

import msgspec

from protos.fraud_pb2 import Incident

RULESET = "base-1"

BURST_ACTIONS_MAX = 8  # distinct actions judged within the window below
BURST_WINDOW_MS = 10_000
BURST_SEEN_MAX = 64  # actions that a fact names at most
EPISODE_MS = 60_000  # bursts closer together than this are one
STRIKES_MAX = 2  # within the window below; one more is a ban
STRIKES_WINDOW_MS = 24 * 3600 * 1000
SANCTION_MS = 24 * 3600 * 1000
CLAIM_TOLERANCE_MS = 250  # by which a claim may exceed the time that the server measured
# Bounds of the built-in action types, for attempts without bounds of their own.
DURATION_MIN_MS, DURATION_MAX_MS = 1_000, 300_000


class Decision(IntEnum):
    """What a verdict decides, the severest highest. Numbered as in the contract."""

    ALLOW = 0
    FLAG = 1
    REJECT = 2
    BAN = 3


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed, against which threshold, over which window, with which ids."""

    rule: str
    version: int = 1
    severity: str  # a decision's name in lower case
    observed: int
    threshold: int
    window_ms: int = 0
    evidence: tuple[str, ...] = ()


class Burst(msgspec.Struct, frozen=True, tag_field="rule", tag="burst"):
    """The actions of one player judged in the window, the newest 64 of them."""

    judged: tuple[tuple[str, int], ...]  # action id, Unix ms
    at_ms: int


class Duration(msgspec.Struct, frozen=True, tag_field="rule", tag="time"):
    """How long one play took, measured and claimed, and the bounds of its type."""

    attempt_id: str
    elapsed_ms: int
    claimed_ms: int | None
    min_ms: int
    max_ms: int


class Repeat(msgspec.Struct, frozen=True, tag_field="rule", tag="repeat"):
    """The bursts of one player that counted, including the present one."""

    strikes: tuple[tuple[str, int], ...]  # decision id, Unix ms
    at_ms: int


class Ban(msgspec.Struct, frozen=True, tag_field="rule", tag="ban"):
    """The player was banned, by the sanction of this version, when the attempt was judged."""

    version: int


Fact = Burst | Duration | Repeat | Ban


def reason(fact: Fact) -> Reason | None:
    """The reason by the rule of the fact; None where the rule is not broken."""
    match fact:
        case Burst():
            return _burst(fact)
        case Duration():
            return _time(fact)
        case Repeat():
            return _repeat(fact)
        case Ban():
            return Reason(rule="ban", severity="ban", observed=fact.version, threshold=0)


def new_episode(strikes_at_ms: list[int], at_ms: int) -> bool:
    """Whether a burst at `at_ms` counts, given when the earlier ones did."""
    return all(at_ms - earlier >= EPISODE_MS for earlier in strikes_at_ms)


def incident_reason(incident: Incident) -> Reason:
    """The reason of a case opened by an incident that another unit reported."""
    return Reason(
        rule=incident.rule,
        severity="reject",
        observed=incident.observed,
        threshold=incident.threshold,
        evidence=(incident.action_id,) if incident.action_id else (),
    )


def _burst(fact: Burst) -> Reason | None:
    seen = {action for action, at in fact.judged if at > fact.at_ms - BURST_WINDOW_MS}
    if len(seen) <= BURST_ACTIONS_MAX:
        return None
    return Reason(
        rule="burst",
        severity="flag",
        observed=len(seen),
        threshold=BURST_ACTIONS_MAX,
        window_ms=BURST_WINDOW_MS,
        evidence=tuple(dict.fromkeys(action for action, _ in fact.judged if action in seen)),
    )


def _time(fact: Duration) -> Reason:
    # The measured time comes first; a claim can only make the reason worse. Actions decided
    # that a time is out of bounds: this finds the bound.
    observed, threshold = fact.elapsed_ms, fact.min_ms
    if fact.claimed_ms is not None and fact.elapsed_ms >= fact.min_ms:
        limit = min(fact.max_ms, fact.elapsed_ms + CLAIM_TOLERANCE_MS)
        observed = fact.claimed_ms
        threshold = fact.min_ms if fact.claimed_ms < fact.min_ms else limit
    return Reason(
        rule="time",
        severity="reject",
        observed=observed,
        threshold=threshold,
        evidence=(fact.attempt_id,),
    )


def _repeat(fact: Repeat) -> Reason | None:
    recent = tuple(d for d, at in fact.strikes if at > fact.at_ms - STRIKES_WINDOW_MS)
    if len(recent) <= STRIKES_MAX:
        return None
    return Reason(
        rule="repeat",
        severity="ban",
        observed=len(recent),
        threshold=STRIKES_MAX,
        window_ms=STRIKES_WINDOW_MS,
        evidence=recent,
    )
