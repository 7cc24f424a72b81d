"""What players are promised, and alerts on how fast the budget of failures is spent."""

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.monitoring.durations import Duration, Durations
from deploy.monitoring.rules import Alert, Group, Record

# The calls that award: a proof with its token or before it, a redemption, a game server's grant.
AWARD_ROUTES = (
    "/api/v1/actions/complete",
    "/api/v1/scores/update",
    "/api/v1/scores/increment",
    "/api/v1/scores/award",
)
_AWARDS = f'method="POST", route=~"{"|".join(AWARD_ROUTES)}"'


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A share of events that must be good over 30 days; `good` and `all` are counters of them."""

    name: str  # as the alert's begins
    title: str
    target: float
    good: str
    all: str

    @property
    def budget(self) -> float:
        return round(1 - self.target, 6)

    @property
    def record(self) -> str:
        words = "".join(f"_{c.lower()}" if c.isupper() else c for c in self.name)
        return f"objective:{words.removeprefix('_')}_bad:ratio"


OBJECTIVES = (
    Objective(
        name="AwardAvailability",
        title="awards answered without a 5xx status",
        target=0.999,
        good=f'http_requests_total{{{_AWARDS}, code!~"5.."}}',
        all=f"http_requests_total{{{_AWARDS}}}",
    ),
    Objective(
        name="AwardLatency",
        title="awards answered within 250 ms",
        target=0.99,
        good=f'http_request_duration_seconds_bucket{{{_AWARDS}, le="0.25"}}',
        all=f"http_request_duration_seconds_count{{{_AWARDS}}}",
    ),
    Objective(
        name="FrameLatency",
        title="awards on watching pages within 200 ms",
        target=0.99,
        good='scoreboard_award_to_frame_seconds_bucket{le="0.2"}',
        all="scoreboard_award_to_frame_seconds_count",
    ),
)


def group(durations: Durations) -> Group:
    return Group(
        name="scoreboard-objectives",
        rules=tuple(rule for each in OBJECTIVES for rule in _rules(each, durations)),
    )


def _rules(objective: Objective, durations: Durations) -> Iterator[Record | Alert]:
    windows = {
        f"{burn.name}_{side}": getattr(burn, side)
        for burn in durations.burns
        for side in ("long", "short")
    }
    for window, duration in windows.items():
        yield Record(
            name=objective.record,
            expression=_bad_ratio(objective, duration),
            labels={"window": window},
        )
    for burn in durations.burns:
        limit = f"{burn.factor} * {objective.budget}"
        long = f'{objective.record}{{window="{burn.name}_long"}} > {limit}'
        short = f'{objective.record}{{window="{burn.name}_short"}} > {limit}'
        yield Alert(
            name=f"{objective.name}Burn",
            expression=f"{long} and ignoring (window) {short}",
            severity="critical" if burn.severity == "critical" else "warning",
            summary=f"Too few {objective.title}",
            description=f"{{{{ $value | humanizePercentage }}}} are not, over {burn.long} and"
            f" {burn.short}: {burn.factor:g} times as many as {objective.target:.1%} allow.",
            labels={"service": "gateway", "burn": burn.name},
        )


def _bad_ratio(objective: Objective, window: Duration) -> str:
    # While none is good there may be no series of good ones.
    good = f"(sum(rate({objective.good}[{window}])) or vector(0))"
    return f"1 - {good} / sum(rate({objective.all}[{window}]))"
