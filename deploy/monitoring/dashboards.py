"""What the dashboards show: an overview, three subjects, and a page for each unit."""

from collections.abc import Sequence

from deploy.monitoring import awards, requests, stores
from deploy.monitoring.grafana import (
    BYTES,
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    Dashboard,
    Panel,
    Row,
    panel,
    row,
)
from deploy.monitoring.objectives import OBJECTIVES
from deploy.units import UNITS
from deploy.units import stores as stores_of

_RATE = "$__rate_interval"


def dashboards() -> tuple[Dashboard, ...]:
    return _overview(), _awards(), _live(), _fraud(), *(_unit(unit) for unit in UNITS)


def _rate(counter: str, by: str, where: str = "") -> tuple[str, str]:
    """A counter's increase a second, a line for each value of the label `by`."""
    series = f"{counter}{{{where}}}" if where else counter
    return f"sum by ({by}) (rate({series}[{_RATE}]))", f"{{{{{by}}}}}"


def _quantiles(histogram: str, where: str = "") -> Sequence[tuple[str, str]]:
    return [
        (
            (
                f"histogram_quantile({share},"
                f" sum by (le) (rate({histogram}_bucket{{{where}}}[{_RATE}])))"
            ),
            f"p{share * 100:g}",
        )
        for share in (0.5, 0.95, 0.99)
    ]


def _each(metric: str, by: str, where: str = "") -> tuple[str, str]:
    """The largest value of a gauge, a line for each value of the label `by`."""
    series = f"{metric}{{{where}}}" if where else metric
    return f"max by ({by}) ({series})", f"{{{{{by}}}}}"


def _overview() -> Dashboard:
    errors = (
        f'sum(rate(http_requests_total{{code=~"5.."}}[{_RATE}]))'
        f" / sum(rate(http_requests_total[{_RATE}]))"
    )
    objectives = [
        panel(
            f"Not: {each.title} ({each.target:.1%} are promised)",
            RATIO,
            (f'{each.record}{{window="fast_short"}}', "of the last 5 minutes"),
            (f'{each.record}{{window="slow_long"}}', "of the last 3 days"),
            limit=each.budget,
        )
        for each in OBJECTIVES
    ]
    return Dashboard(
        uid="scoreboard-overview",
        title="Scoreboard: overview",
        rows=(
            row("Objectives", *objectives),
            row(
                "Players",
                panel("Requests", PER_SECOND, _rate("http_requests_total", "code")),
                panel("Errors", RATIO, (errors, "5xx"), limit=requests.ERROR_RATIO_MAX),
                panel(
                    "Time to answer",
                    SECONDS,
                    *_quantiles("http_request_duration_seconds"),
                    limit=requests.RESPONSE_MAX_S,
                ),
                panel("Awards", PER_SECOND, _rate("scoreboard_awards_total", "outcome")),
                panel("Watching sockets", COUNT, ("sum(live_sockets)", "sockets")),
                panel(
                    "Refused",
                    PER_SECOND,
                    _rate("limits_refused_total", "limit"),
                    _rate("requests_shed_total", "reason"),
                    limit=requests.SHED_MAX_PER_S,
                ),
            ),
            row(
                "Units",
                panel("Processes up", COUNT, ('sum by (service) (up{namespace="scoreboard"})', "")),
                panel("Calls", PER_SECOND, _rate("grpc_requests_total", "service")),
                panel(
                    "Event loop, p95",
                    SECONDS,
                    (
                        (
                            "histogram_quantile(0.95, sum by (service, le)"
                            f" (rate(event_loop_lag_seconds_bucket[{_RATE}])))"
                        ),
                        "{{service}}",
                    ),
                    limit=requests.LOOP_LAG_MAX_S,
                ),
                panel(
                    "Alerts that fire",
                    COUNT,
                    (
                        'sum by (alertname) (ALERTS{namespace="scoreboard", alertstate="firing"})',
                        "{{alertname}}",
                    ),
                ),
                panel(
                    "Memory of Redis",
                    RATIO,
                    (
                        "max by (node) (redis_memory_used_bytes / (redis_memory_max_bytes > 0))",
                        "{{node}}",
                    ),
                    limit=stores.MEMORY_RATIO_MAX,
                ),
                panel(
                    "Certificates end in",
                    SECONDS,
                    ("min by (service) (tls_certificate_expires_seconds) - time()", "{{service}}"),
                ),
            ),
        ),
    )


def _awards() -> Dashboard:
    return Dashboard(
        uid="scoreboard-awards",
        title="Scoreboard: awards",
        rows=(
            row(
                "Awards",
                panel("By outcome", PER_SECOND, _rate("scoreboard_awards_total", "outcome")),
                panel("Items in a batch", COUNT, _mean("batch_items", "name")),
                panel("Items that wait for a batch", COUNT, _each("batch_queue_items", "name")),
            ),
            row(
                "Ledger",
                panel(
                    "Ledger unavailable", COUNT, _each("scoreboard_ledger_unavailable", "service")
                ),
                panel("Waiting in the journal", COUNT, _each("scoreboard_journal_waiting", "pod")),
                panel(
                    "Items of the journal",
                    PER_SECOND,
                    _rate("scoreboard_journal_items_total", "outcome"),
                ),
                panel(
                    "Age of the outbox",
                    SECONDS,
                    _each("scoreboard_outbox_age_seconds", "service"),
                    limit=awards.OUTBOX_AGE_MAX_S,
                ),
                panel(
                    "Published by the relay",
                    PER_SECOND,
                    _rate("scoreboard_awards_relayed_total", "service"),
                ),
                panel(
                    "Differs from the ledger",
                    PER_SECOND,
                    _rate("scoreboard_ledger_mismatches_total", "service"),
                ),
            ),
            row(
                "Boards",
                panel("Repaired", PER_SECOND, _rate("scoreboard_drift_repaired_total", "board")),
                panel("Rebuilt", PER_SECOND, _rate("scoreboard_boards_rebuilt_total", "board")),
                panel("Rebuild", RATIO, ("min(scoreboard_rebuild_progress_ratio)", "progress")),
                panel("First entries, by store", PER_SECOND, _rate("scoreboard_tops_total", "by")),
                panel(
                    "Closed periods", PER_SECOND, _rate("scoreboard_periods_closed_total", "board")
                ),
                panel(
                    "Period overdue",
                    SECONDS,
                    _each("scoreboard_period_overdue_seconds", "service"),
                    limit=awards.OVERDUE_MAX_S,
                ),
            ),
            _streams(),
        ),
    )


def _live() -> Dashboard:
    return Dashboard(
        uid="scoreboard-live",
        title="Scoreboard: live channel",
        rows=(
            row(
                "Sockets",
                panel("Open", COUNT, _sum("live_sockets", "pod")),
                panel("Closed by us", PER_SECOND, _rate("live_closes_total", "code")),
                panel("Channels watched", COUNT, _sum("live_channels", "pod")),
            ),
            row(
                "Frames",
                panel(
                    "From award to socket",
                    SECONDS,
                    *_quantiles("scoreboard_award_to_frame_seconds"),
                    limit=awards.FRAME_LAG_MAX_S,
                ),
                panel("Handed to sockets", PER_SECOND, _rate("live_frames_delivered_total", "pod")),
                panel("Conflated", PER_SECOND, _rate("live_conflations_total", "pod")),
            ),
            row(
                "Boards",
                panel("Published", PER_SECOND, _rate("live_publications_total", "board")),
                panel("Time of a tick", SECONDS, *_quantiles("live_tick_seconds")),
                panel("Gateways attached", COUNT, _sum("live_gateways", "pod")),
                panel("Streams opened", PER_SECOND, _rate("live_attachments_total", "pod")),
            ),
        ),
    )


def _fraud() -> Dashboard:
    return Dashboard(
        uid="scoreboard-fraud",
        title="Scoreboard: fraud",
        rows=(
            row(
                "Verdicts",
                panel("By decision", PER_SECOND, _rate("fraud_verdicts_total", "decision")),
                panel(
                    "Anomalies, by rule",
                    PER_SECOND,
                    _rate("scoreboard_anomaly_events_total", "rule"),
                ),
                panel("Not counted", PER_SECOND, _rate("fraud_uncounted_total", "service")),
            ),
            row(
                "Sanctions",
                panel(
                    "Since the deny list was up to date",
                    SECONDS,
                    (
                        "max by (service, pod, feed) (feed_behind_seconds)",
                        "{{service}} {{pod}} {{feed}}",
                    ),
                    limit=awards.FEED_BEHIND_MAX_S,
                ),
                panel("Catch-up behind", SECONDS, _each("fraud_awards_behind_seconds", "service")),
            ),
            _streams(),
        ),
    )


def _unit(unit: str) -> Dashboard:
    where = f'service="{unit}"'
    front = (
        [
            panel("Requests", PER_SECOND, _rate("http_requests_total", "route", where)),
            panel("Time to answer", SECONDS, *_quantiles("http_request_duration_seconds", where)),
        ]
        if unit == "gateway"
        else [
            panel("Calls", PER_SECOND, _rate("grpc_requests_total", "method", where)),
            panel(
                "Failures", PER_SECOND, _rate("grpc_requests_total", "code", f'{where}, code!="OK"')
            ),
            panel("Time to answer", SECONDS, *_quantiles("grpc_request_duration_seconds", where)),
        ]
    )
    callees = (
        [
            panel(
                "Calls to others", PER_SECOND, _rate("grpc_client_requests_total", "method", where)
            ),
            panel(
                "Failures of others",
                PER_SECOND,
                _rate("grpc_client_requests_total", "code", f'{where}, code!="OK"'),
            ),
        ]
        if unit != "auth"
        else []
    )
    rows = [row("Requests", *front, *callees), _process(where)]
    rows += [_postgres(where)] if "database_url" in stores_of(unit) else []
    rows += [_redis(where)] if "redis_url" in stores_of(unit) else []
    return Dashboard(uid=f"scoreboard-{unit}-unit", title=f"Unit: {unit}", rows=tuple(rows))


def _process(where: str) -> Row:
    return row(
        "Process",
        panel("CPU", COUNT, _rate("process_cpu_seconds_total", "pod", where)),
        panel("Memory", BYTES, _each("process_resident_memory_bytes", "pod", where)),
        panel(
            "Event loop",
            SECONDS,
            *_quantiles("event_loop_lag_seconds", where),
            limit=requests.LOOP_LAG_MAX_S,
        ),
        panel(
            "Certificates end in",
            SECONDS,
            (
                f"min by (certificate) (tls_certificate_expires_seconds{{{where}}}) - time()",
                "{{certificate}}",
            ),
        ),
        panel("Certificates read again", PER_SECOND, _rate("tls_reloads_total", "pod", where)),
    )


def _postgres(where: str) -> Row:
    return row(
        "Postgres",
        panel(
            "Connections in use",
            RATIO,
            (
                (
                    f"max by (pod, pool) (postgres_pool_connections_in_use{{{where}}}"
                    f" / postgres_pool_connections_max{{{where}}})"
                ),
                "{{pod}} {{pool}}",
            ),
            limit=stores.POOL_RATIO_MAX,
        ),
        panel("Wait for a connection", SECONDS, *_quantiles("postgres_pool_wait_seconds", where)),
        panel(
            "Errors, by class of SQLSTATE",
            PER_SECOND,
            _rate("postgres_errors_total", "class", where),
            limit=stores.ERRORS_MAX_PER_S,
        ),
    )


def _redis(where: str) -> Row:
    return row(
        "Redis",
        panel("Commands in flight", COUNT, _each("redis_commands_in_flight", "pod", where)),
        panel("Time of a command", SECONDS, *_quantiles("redis_command_seconds", where)),
        panel(
            "Errors",
            PER_SECOND,
            _rate("redis_errors_total", "pod", where),
            limit=stores.ERRORS_MAX_PER_S,
        ),
    )


def _streams() -> Row:
    def filled(what: str) -> Panel:
        ratio = f"max by (stream) (redis_stream_{what} / redis_stream_{what}_max)"
        return panel(
            f"Of the bound in {what}", RATIO, (ratio, "{{stream}}"), limit=awards.STREAM_RATIO_MAX
        )

    return row("Streams", filled("entries"), filled("bytes"))


def _sum(gauge: str, by: str) -> tuple[str, str]:
    return f"sum by ({by}) ({gauge})", f"{{{{{by}}}}}"


def _mean(histogram: str, by: str) -> tuple[str, str]:
    return (
        (
            f"sum by ({by}) (rate({histogram}_sum[{_RATE}]))"
            f" / sum by ({by}) (rate({histogram}_count[{_RATE}]))"
        ),
        f"{{{{{by}}}}}",
    )
