"""What a rule is, the expressions that several rules share, and the form Prometheus reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from deploy.monitoring.durations import Duration, Durations

NAMESPACE = "scoreboard"

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A series that Prometheus computes from others, named `level:metric:operation`."""

    name: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A condition that a person must know of: `critical` at once, `warning` within a day.

    `labels` are those that the expression's result has not: every alert ends up with `service`.
    """

    name: str
    expression: str
    lasts: Duration | None = None  # how long the condition holds before the alert fires
    severity: Severity
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rules that are computed together, in order; none uses a record of another group."""

    name: str
    rules: tuple[Record | Alert, ...]


def quantile(share: float, histogram: str, by: str, window: Duration) -> str:
    """The value below which `share` of a histogram's observations lie."""
    rate = f"sum by ({by}, le) (rate({histogram}_bucket[{window}]))"
    return f"histogram_quantile({share}, {rate})"


def share(part: str, whole: str, by: str, window: Duration) -> str:
    """The share that the counter `part` has in the counter `whole`, of the last window."""
    return f"sum by ({by}) (rate({part}[{window}])) / sum by ({by}) (rate({whole}[{window}]))"


def grew(counter: str, by: str, window: Duration) -> str:
    """By how much a counter grew.

    A series that did not exist a window ago began at 0, though Prometheus has never seen it there.
    """
    increased = f"sum by ({by}) (increase({counter}[{window}])) > 0"
    began = f"sum by ({by}) ({counter} unless {counter} offset {window}) > 0"
    return f"({increased}) or ({began})"


def file_of(groups: Iterable[Group], durations: Durations) -> dict[str, Any]:
    """A rule file, as Prometheus and the `spec` of a PrometheusRule have it."""
    return {
        "groups": [
            {
                "name": group.name,
                "interval": str(durations.evaluation),
                "rules": [_rule(rule) for rule in group.rules],
            }
            for group in groups
        ]
    }


def runbook(alert: str) -> str:
    """Where the page of an alert is, from the root of the source tree."""
    return f"docs/operations.md#{alert.lower()}"


def _rule(rule: Record | Alert) -> dict[str, Any]:
    if isinstance(rule, Record):
        labels = {"labels": dict(rule.labels)} if rule.labels else {}
        return {"record": rule.name, "expr": rule.expression, **labels}
    return {
        "alert": rule.name,
        "expr": rule.expression,
        **({"for": str(rule.lasts)} if rule.lasts else {}),
        # An AlertmanagerConfig gets the alerts of its own namespace, by this label.
        "labels": {"severity": rule.severity, "namespace": NAMESPACE, **rule.labels},
        "annotations": {
            "summary": rule.summary,
            "description": rule.description,
            "runbook": runbook(rule.name),
        },
    }
