"""Evaluation of attempts: the verdict, and the sanction that follows for the player."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from chassis.ids import uuid7
from services.fraud import rules
from services.fraud.rules import Ban, Burst, Decision, Fact, Reason, Repeat


class Kind(IntEnum):
    """The kind of a sanction, the severest highest. Numbered as in the contract."""

    NONE = 0
    FLAGGED = 1
    QUARANTINED = 2
    BANNED = 3


@dataclass(frozen=True, slots=True)
class Sanction:
    """The sanction of a player as of `version`."""

    user_id: str
    kind: Kind
    version: int
    until_ms: int  # Unix time; 0: without an end

    def in_force(self, at_ms: int) -> bool:
        """Whether it holds at that moment; a sanction with an end expires by itself."""
        return self.kind is not Kind.NONE and (self.until_ms == 0 or at_ms < self.until_ms)


@dataclass(slots=True)
class Attempt:
    """An attempt to redeem an action."""

    attempt_id: str
    action_id: str
    user_id: str
    accepted: bool

    @property
    def subject_id(self) -> str:
        """What the verdict is stored under: the action if accepted (judged once), else itself."""
        return self.action_id if self.accepted else self.attempt_id


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An attempt that cannot be allowed at once. Without facts: its player is sanctioned."""

    attempt: Attempt
    fixed: bool  # the short windows hold it as allowed
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and why; `decision_id` is empty where nothing was recorded."""

    decision: Decision
    ruleset: str = rules.RULESET
    reasons: tuple[Reason, ...] = ()
    decision_id: str = ""


Judgement = tuple[Verdict, Sanction | None]  # with the player's present sanction

ALLOWED = Verdict(Decision.ALLOW)


@dataclass(slots=True)
class Record:
    """A player's present sanction, and the bursts of the last 24 h."""

    sanction: Sanction | None = None
    strikes: list[tuple[str, int]] = field(default_factory=list)  # decision id, Unix ms


@dataclass(frozen=True, slots=True)
class Case:
    """What a moderator reviews; one per source (an incident or a decision) and player."""

    user_id: str
    source_id: str
    reasons: Sequence[Reason]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and its facts; `strike`: a burst that counts; `kind`: of a new sanction."""

    verdict: Verdict
    facts: tuple[Fact, ...]
    strike: bool = False
    kind: Kind | None = None


@dataclass(slots=True, kw_only=True)
class EvaluationBatch:
    """Evaluates attempts one after the other: what was stored before, and what is to be."""

    version: int  # of the latest sanction
    at_ms: int
    verdicts: dict[str, Verdict]  # by subject
    records: Mapping[str, Record]  # by player
    outcomes: list[tuple[Evaluation, Outcome]] = field(default_factory=list)
    sanctions: list[tuple[Sanction, str]] = field(default_factory=list)  # with their causes
    cases: list[Case] = field(default_factory=list)

    def evaluate(self, evaluation: Evaluation) -> Verdict:
        """The stored verdict, or a new one with its sanction and case."""
        subject_id, user_id = evaluation.attempt.subject_id, evaluation.attempt.user_id
        if subject_id in self.verdicts:
            return self.verdicts[subject_id]
        record = self.records[user_id]
        found = decide(evaluation, record, at_ms=self.at_ms)
        verdict = found.verdict
        if verdict.decision is Decision.ALLOW:
            return verdict
        self.verdicts[subject_id] = verdict
        self.outcomes.append((evaluation, found))
        if found.strike:
            record.strikes.append((verdict.decision_id, self.at_ms))
        if found.kind is not None:
            self.version += 1
            until_ms = self.at_ms + rules.SANCTION_MS
            record.sanction = Sanction(user_id, found.kind, self.version, until_ms)
            self.sanctions.append((record.sanction, "burst"))
        if found.kind is Kind.BANNED:
            self.cases.append(Case(user_id, verdict.decision_id, verdict.reasons))
        return verdict


def decide(evaluation: Evaluation, record: Record, *, at_ms: int) -> Outcome:
    """The outcome of an evaluation at that moment. Changes nothing."""
    decision_id = uuid7()
    facts, strike, kind = list(evaluation.facts), False, None
    sanction = record.sanction if record.sanction and record.sanction.in_force(at_ms) else None
    if sanction and sanction.kind is Kind.BANNED:
        if evaluation.attempt.accepted:
            facts.append(Ban(sanction.version))
    elif any(isinstance(fact, Burst) and rules.reason(fact) for fact in facts):
        strike = rules.new_episode([at for _, at in record.strikes], at_ms)
        if strike:
            kind = Kind.FLAGGED
            repeat = Repeat((*record.strikes, (decision_id, at_ms)), at_ms)
            if rules.reason(repeat):
                facts.append(repeat)
                kind = Kind.BANNED
            if sanction and sanction.kind > kind:
                kind = None  # a severer one is in force
    reasons = tuple(found for fact in facts if (found := rules.reason(fact)))
    if not reasons:
        return Outcome(ALLOWED, tuple(facts))
    # Ban before reject before flag: the severest reason decides, all of them are listed.
    decision = max(Decision[reason.severity.upper()] for reason in reasons)
    verdict = Verdict(decision, rules.RULESET, reasons, decision_id)
    return Outcome(verdict, tuple(facts), strike, kind)
