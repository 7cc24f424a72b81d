"""For each alert, series under which it fires and series at its edge, under which it does not."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from deploy.units import UNITS

Series = Mapping[str, str]  # a series to its values, a minute apart, as promtool writes them

HOURS_6 = 360
DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Case:
    """`labels` distinguish the rules of one name. Both are looked at `at_min` minutes."""

    alert: str
    fires: Series
    quiet: Series
    labels: Mapping[str, str] = field(default_factory=dict)
    at_min: int = 30


def counter(per_min: float, minutes: int = 60) -> str:
    return f"0+{per_min}x{minutes}"


def gauge(value: float, minutes: int = 60) -> str:
    return f"{value}x{minutes}"


def grown(by: int, minutes: int = 27) -> str:
    """A counter that exists at 0 and grows at the end."""
    return f"0x{minutes} {by}x10"


def began(at: int) -> str:
    """A counter that no one has seen before it has a value."""
    return f"_x27 {at}x10"


def histogram(name: str, labels: str, *, below: float, limit: str) -> dict[str, str]:
    """1000 observations a minute, of which the share `below` is at most `limit`, the rest 10."""
    return {
        f'{name}_bucket{{{labels}, le="0.001"}}': counter(0),
        f'{name}_bucket{{{labels}, le="{limit}"}}': counter(below * 1000),
        f'{name}_bucket{{{labels}, le="10"}}': counter(1000),
        f'{name}_bucket{{{labels}, le="+Inf"}}': counter(1000),
        f"{name}_count{{{labels}}}": counter(1000),
    }


def cases() -> Iterator[Case]:
    yield from _requests()
    yield from _ledger()
    yield from _boards()
    yield from _fraud()
    yield from _stores()
    yield from _cluster()
    yield from _objectives()


def _requests() -> Iterator[Case]:
    http = 'http_requests_total{service="gateway", route="/", method="GET", code="%d"}'
    grpc = 'grpc_requests_total{service="scores", method="/x", code="%s"}'
    shed = 'requests_shed_total{service="gateway", reason="queue"}'
    gateway = 'service="gateway", pod="a"'
    yield Case(
        alert="HighErrorRate",
        fires={http % 200: counter(94), http % 500: counter(6)},
        quiet={http % 200: counter(95), http % 500: counter(5)},
    )
    yield Case(
        alert="HighResponseTime",
        fires=histogram("http_request_duration_seconds", gateway, below=0.94, limit="0.5"),
        quiet=histogram("http_request_duration_seconds", gateway, below=0.95, limit="0.5"),
    )
    yield Case(
        alert="GrpcErrorRatio",
        fires={grpc % "OK": counter(94), grpc % "TIMEOUT": counter(6)},
        quiet={
            grpc % "OK": counter(45),
            grpc % "TOKEN_ALREADY_USED": counter(50),  # a fault of the caller's
            grpc % "DB_UNAVAILABLE": counter(5),
        },
    )
    yield Case(
        alert="EventLoopLag",
        fires=histogram("event_loop_lag_seconds", gateway, below=0.94, limit="0.1"),
        quiet=histogram("event_loop_lag_seconds", gateway, below=0.95, limit="0.1"),
    )
    yield Case(alert="RequestsShed", fires={shed: counter(61)}, quiet={shed: counter(60)})


def _ledger() -> Iterator[Case]:
    unavailable = 'scoreboard_ledger_unavailable{service="scores", pod="a"}'
    waiting = 'scoreboard_journal_waiting{service="scores", pod="a"}'
    items = 'scoreboard_journal_items_total{service="scores", outcome="%s"}'
    mismatches = 'scoreboard_ledger_mismatches_total{service="scores"}'
    outbox = 'scoreboard_outbox_age_seconds{service="scores", pod="a"}'
    yield Case(
        alert="LedgerUnavailable", fires={unavailable: gauge(1)}, quiet={unavailable: gauge(0)}
    )
    yield Case(alert="ReplayJournalNotEmpty", fires={waiting: gauge(1)}, quiet={waiting: gauge(0)})
    for outcome in ("full", "forged", "unwritable", "stuck"):
        yield Case(
            alert="JournalItemsRejected",
            fires={items % outcome: began(1)},
            quiet={
                items % "queued": grown(9),
                items % "replayed": began(9),
                items % outcome: gauge(3),
            },
        )
    yield Case(alert="LedgerMismatch", fires={mismatches: grown(1)}, quiet={mismatches: gauge(7)})
    yield Case(alert="RelayLag", fires={outbox: gauge(10.1)}, quiet={outbox: gauge(10)})


def _boards() -> Iterator[Case]:
    frames, gateway = "scoreboard_award_to_frame_seconds", 'service="gateway", pod="a"'
    yield Case(
        alert="AwardToFrameLag",
        fires=histogram(frames, gateway, below=0.94, limit="0.2"),
        quiet=histogram(frames, gateway, below=0.95, limit="0.2"),
    )
    for alert, metric in (
        ("DriftRepaired", "scoreboard_drift_repaired_total"),
        ("BoardRebuilt", "scoreboard_boards_rebuilt_total"),
    ):
        series = f'{metric}{{service="scores", board="all_time"}}'
        yield Case(alert=alert, fires={series: began(1)}, quiet={series: gauge(2)})
        yield Case(alert=alert, fires={series: grown(1)}, quiet={series: gauge(0)})
    overdue = 'scoreboard_period_overdue_seconds{service="scores", pod="a"}'
    yield Case(alert="PeriodOverdue", fires={overdue: gauge(60.1)}, quiet={overdue: gauge(60)})


def _fraud() -> Iterator[Case]:
    anomalies = 'scoreboard_anomaly_events_total{service="fraud", pod="a", rule="burst"}'
    # A day like any other has a quarter a second, after a first hour that is not looked at.
    usual, then = "0+15x80", 80 * 15
    yield Case(
        alert="AnomalyScorePattern",
        fires={anomalies: f"{usual} {then + 46}+46x20"},
        quiet={anomalies: f"{usual} {then + 45}+45x20"},
        at_min=89,
    )
    # Without a past a tenth a second is the edge.
    yield Case(
        alert="AnomalyScorePattern",
        fires={anomalies: counter(7)},
        quiet={anomalies: counter(6)},
        at_min=9,
    )
    feed = 'feed_behind_seconds{service="gateway", pod="a", feed="sanctions"}'
    behind = 'fraud_awards_behind_seconds{service="fraud", pod="a"}'
    uncounted = 'fraud_uncounted_total{service="fraud", pod="a"}'
    yield Case(alert="DenyListLag", fires={feed: gauge(10.1)}, quiet={feed: gauge(10)})
    yield Case(
        alert="FraudCatchUpBehind",
        fires={behind: gauge(3, 100)},
        quiet={behind: "3x58 0 3x40"},
        at_min=62,
    )
    yield Case(
        alert="AttemptsUncounted", fires={uncounted: counter(1)}, quiet={uncounted: gauge(5)}
    )
    for what in ("entries", "bytes"):
        held = f'redis_stream_{what}{{service="scores", stream="awards"}}'
        bound = f'redis_stream_{what}_max{{service="scores", stream="awards"}}'
        yield Case(
            alert="StreamNearBound",
            fires={held: gauge(901), bound: gauge(1000)},
            quiet={held: gauge(900), bound: gauge(1000)},
        )


def _stores() -> Iterator[Case]:
    pool = 'postgres_pool_connections_%s{service="scores", pod="a", pool="primary"}'
    yield Case(
        alert="DatabasePoolNearlyFull",
        fires={pool % "in_use": gauge(9), pool % "max": gauge(11)},
        quiet={pool % "in_use": gauge(8), pool % "max": gauge(10)},
    )
    errors = 'postgres_errors_total{service="scores", class="connection"}'
    yield Case(alert="PostgresErrors", fires={errors: counter(7)}, quiet={errors: counter(6)})
    refused = 'grpc_requests_total{service="scores", method="/x", code="%s"}'
    yield Case(
        alert="StatementsRefused",
        fires={refused % "DB_ERROR": began(1)},
        quiet={refused % "DB_ERROR": gauge(4), refused % "DB_UNAVAILABLE": grown(9)},
    )
    reads = 'postgres_replica_reads_total{service="scores", server="%s"}'
    yield Case(
        alert="ReplicaBehind",
        fires={reads % "primary": counter(51), reads % "replica": counter(49)},
        quiet={reads % "primary": counter(50), reads % "replica": counter(50)},
    )
    errors = 'redis_errors_total{service="scores", pod="a"}'
    yield Case(alert="RedisErrors", fires={errors: counter(7)}, quiet={errors: counter(6)})
    memory = 'redis_memory_%s_bytes{service="scores", pod="a", node="redis:6379"}'
    yield Case(
        alert="RedisMemoryNearlyFull",
        fires={memory % "used": gauge(901), memory % "max": gauge(1000)},
        quiet={memory % "used": gauge(900), memory % "max": gauge(1000)},
    )
    # Without a bound nothing is near it.
    yield Case(
        alert="RedisMemoryNearlyFull",
        fires={memory % "used": gauge(1000), memory % "max": gauge(1000)},
        quiet={memory % "used": gauge(1000), memory % "max": gauge(0)},
    )
    yield Case(
        alert="RedisMaxMemoryUnset",
        fires={memory % "max": gauge(0)},
        quiet={memory % "max": gauge(1)},
    )


def _cluster() -> Iterator[Case]:
    up = 'up{namespace="scoreboard", service="%s", pod="%s"}'
    for unit in UNITS:
        yield Case(
            alert="UnitUnavailable",
            labels={"service": unit},
            fires={up % (unit, "a"): gauge(0)},
            quiet={up % (unit, "a"): gauge(0), up % (unit, "b"): gauge(1)},
        )
    # None is even known.
    yield Case(
        alert="UnitUnavailable", fires={}, quiet={up % (unit, "a"): gauge(1) for unit in UNITS}
    )
    yield Case(
        alert="TargetDown",
        fires={up % ("auth", "a"): gauge(1), up % ("auth", "b"): gauge(0)},
        quiet={up % ("auth", "a"): gauge(1)},
    )
    certificate = 'tls_certificate_expires_seconds{service="auth", pod="a", certificate="own"}'
    for severity, days in (("warning", 14), ("critical", 3)):
        # Always as far ahead, by exactly so many days, or by a second less.
        ahead = days * DAY_S
        yield Case(
            alert="CertificateExpires",
            labels={"severity": severity},
            fires={certificate: f"{ahead - 1}+60x60"},
            quiet={certificate: f"{ahead}+60x60"},
        )
    scaled = (
        'kube_horizontalpodautoscaler_%s{namespace="scoreboard", horizontalpodautoscaler="scores"}'
    )
    yield Case(
        alert="AutoscalerAtMax",
        fires={
            scaled % "status_current_replicas": gauge(20),
            scaled % "spec_max_replicas": gauge(20),
        },
        quiet={
            scaled % "status_current_replicas": gauge(19),
            scaled % "spec_max_replicas": gauge(20),
        },
    )
    waiting = (
        "kube_pod_container_status_waiting_reason"
        '{namespace="scoreboard", pod="a", container="scores", reason="%s"}'
    )
    yield Case(
        alert="PodCrashLooping",
        fires={waiting % "CrashLoopBackOff": gauge(1)},
        quiet={waiting % "CrashLoopBackOff": gauge(0), waiting % "ContainerCreating": gauge(1)},
    )


def _objectives() -> Iterator[Case]:
    """Each burn rate of each objective: a little more, and no more, than its factor."""
    award = 'service="gateway", method="POST", route="/api/v1/scores/update"'
    other = 'service="gateway", method="GET", route="/health"'

    def answered(bad: float) -> Series:
        total = f"http_requests_total{{{award}, code="
        return {
            f'{total}"200"}}': counter(1e6 - bad * 1e6, HOURS_6 + 10),
            f'{total}"503"}}': counter(bad * 1e6, HOURS_6 + 10),
            # Not an award.
            f'http_requests_total{{{other}, code="503"}}': counter(1e6, HOURS_6 + 10),
        }

    def within(name: str, labels: str, limit: str) -> Callable[[float], Series]:
        def series(bad: float) -> Series:
            return {
                f'{name}_bucket{{{labels}, le="{limit}"}}': counter(1e6 - bad * 1e6, HOURS_6 + 10),
                f'{name}_bucket{{{labels}, le="+Inf"}}': counter(1e6, HOURS_6 + 10),
                f"{name}_count{{{labels}}}": counter(1e6, HOURS_6 + 10),
            }

        return series

    duration = within("http_request_duration_seconds", award, "0.25")
    frames = within("scoreboard_award_to_frame_seconds", 'service="gateway"', "0.2")
    for name, budget, made in (
        ("AwardAvailability", 0.001, answered),
        ("AwardLatency", 0.01, duration),
        ("FrameLatency", 0.01, frames),
    ):
        for burn, factor in (("fast", 14.4), ("medium", 6), ("slow", 1)):
            yield Case(
                alert=f"{name}Burn",
                labels={"burn": burn},
                fires=made(factor * budget * 1.01),
                quiet=made(factor * budget * 0.99),
                at_min=HOURS_6,
            )
