"""Every duration of the rules, the scrape and the routes, so that a test may shorten them all."""

from dataclasses import dataclass

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time that formats as Prometheus writes it: `5m`, `3h36m`, `750ms`."""

    ms: int

    @property
    def s(self) -> float:
        return self.ms / 1000

    def __str__(self) -> str:
        parts, rest = [], self.ms
        for unit, unit_ms in _UNITS_MS.items():
            count, rest = divmod(rest, unit_ms)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"


@dataclass(frozen=True, kw_only=True)
class Burn:
    """One rate at which an objective's budget is spent, seen in a long and a short window."""

    name: str
    factor: float  # of the rate that spends the budget in exactly the objective's period
    long: Duration
    short: Duration
    severity: str


class Durations:
    """All of them, each divided by `divisor`."""

    def __init__(self, divisor: int = 1) -> None:
        def last(**units: int) -> Duration:
            total_ms = sum(count * _UNITS_MS[unit] for unit, count in units.items())
            return Duration(total_ms // divisor)

        self.scrape = last(s=15)
        self.scrape_timeout = last(s=10)
        self.evaluation = last(s=15)
        self.window = last(m=5)  # over which rates are taken
        self.baseline = last(h=1)  # what is usual, for what is unusual
        self.baseline_age = last(m=10)  # so that what happens now is not part of it
        # How long something must last.
        self.moment = last(m=1)
        self.brief = last(m=2)
        self.sustained = last(m=5)
        self.lasting = last(m=15)
        self.hour = last(h=1)
        # The multi-window rates of Google's SRE workbook: they spend 2 %, 5 % and 10 % of the
        # budget of 30 days within the long window.
        self.burns = (
            Burn(name="fast", factor=14.4, long=last(h=1), short=last(m=5), severity="critical"),
            Burn(name="medium", factor=6, long=last(h=6), short=last(m=30), severity="critical"),
            Burn(name="slow", factor=1, long=last(d=3), short=last(h=6), severity="warning"),
        )
        # Notifications.
        self.group_wait = last(s=30)
        self.group_interval = last(m=5)
        self.repeat_critical = last(h=1)
        self.repeat_warning = last(h=12)
