"""The rules: pure functions from what was seen to a reason, so that each reason can be had again.

A fact is what a rule looks at. Facts are stored beside the verdict they led to, and
`reason(fact)` gives the same reason again for as long as the rule's version stands.
"""

from enum import IntEnum

import msgspec

RULESET = "base-1"

BURST_ACTIONS_MAX = 8  # distinct actions judged within the window below
BURST_WINDOW_MS = 10_000
BURST_SEEN_MAX = 64  # actions that a fact names at most
EPISODE_MS = 60_000  # bursts closer together than this are one
STRIKES_MAX = 2  # within the window below; one more is a ban
STRIKES_WINDOW_MS = 24 * 3600 * 1000
SANCTION_MS = 24 * 3600 * 1000
CLAIM_TOLERANCE_MS = 250  # what a client's clock may run ahead of the wait we measured
# Bounds of the built-in action types, for attempts that come without their own.
DURATION_MIN_MS, DURATION_MAX_MS = 1_000, 300_000


class Decision(IntEnum):
    """A verdict's outcome; the graver, the higher. Numbered as in the contract."""

    ALLOW = 0
    FLAG = 1
    REJECT = 2
    BAN = 3


class Reason(msgspec.Struct, frozen=True):
    """Why: what was observed, against which threshold, over which window, by which ids."""

    rule: str
    version: int
    severity: str  # a decision's name in lower case
    observed: int
    threshold: int
    window_ms: int
    evidence: tuple[str, ...]


class Burst(msgspec.Struct, frozen=True, tag_field="rule", tag="burst"):
    """The actions of one player that were judged lately, the newest 64 of them."""

    judged: tuple[tuple[str, int], ...]  # action id, Unix ms
    at_ms: int


class Duration(msgspec.Struct, frozen=True, tag_field="rule", tag="time"):
    """How long one play took, by our clock and by the player's claim, and its type's bounds."""

    attempt_id: str
    elapsed_ms: int
    claimed_ms: int | None
    min_ms: int
    max_ms: int


class Repeat(msgspec.Struct, frozen=True, tag_field="rule", tag="repeat"):
    """The bursts of one player that counted, the present one among them."""

    strikes: tuple[tuple[str, int], ...]  # decision id, Unix ms
    at_ms: int


class Ban(msgspec.Struct, frozen=True, tag_field="rule", tag="ban"):
    """The player was banned by the sanction of this version when the attempt was judged."""

    version: int


Fact = Burst | Duration | Repeat | Ban


def reason(fact: Fact) -> Reason | None:
    """What the fact's rule makes of it; None where it finds nothing wrong."""
    match fact:
        case Burst():
            return _burst(fact)
        case Duration():
            return _time(fact)
        case Repeat():
            return _repeat(fact)
        case Ban():
            return Reason("ban", 1, "ban", fact.version, 0, 0, ())


def new_episode(strikes_at_ms: list[int], at_ms: int) -> bool:
    """Whether a burst at `at_ms` counts, given when the earlier ones did."""
    return all(at_ms - earlier >= EPISODE_MS for earlier in strikes_at_ms)


def incident_reason(rule: str, *, observed: int, threshold: int, action_id: str) -> Reason:
    """The reason of a case that another unit's finding opens."""
    evidence = (action_id,) if action_id else ()
    return Reason(rule, 1, "reject", observed, threshold, 0, evidence)


def _burst(fact: Burst) -> Reason | None:
    seen = {action for action, at in fact.judged if at > fact.at_ms - BURST_WINDOW_MS}
    if len(seen) <= BURST_ACTIONS_MAX:
        return None
    evidence = tuple(dict.fromkeys(action for action, _ in fact.judged if action in seen))
    return Reason("burst", 1, "flag", len(seen), BURST_ACTIONS_MAX, BURST_WINDOW_MS, evidence)


def _time(fact: Duration) -> Reason:
    # The server's clock is the measure; a claim can only make matters worse. That the
    # times were out of bounds is the finder's verdict: this names the bound.
    observed, threshold = fact.elapsed_ms, fact.min_ms
    if fact.claimed_ms is not None and fact.elapsed_ms >= fact.min_ms:
        limit = min(fact.max_ms, fact.elapsed_ms + CLAIM_TOLERANCE_MS)
        observed = fact.claimed_ms
        threshold = fact.min_ms if fact.claimed_ms < fact.min_ms else limit
    return Reason("time", 1, "reject", observed, threshold, 0, (fact.attempt_id,))


def _repeat(fact: Repeat) -> Reason | None:
    recent = tuple(d for d, at in fact.strikes if at > fact.at_ms - STRIKES_WINDOW_MS)
    if len(recent) <= STRIKES_MAX:
        return None
    return Reason("repeat", 1, "ban", len(recent), STRIKES_MAX, STRIKES_WINDOW_MS, recent)
