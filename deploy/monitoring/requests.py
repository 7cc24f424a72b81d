"""Alerts on requests of every kind: errors, response times, load."""

from deploy.monitoring.durations import Durations
from deploy.monitoring.rules import Alert, Group, quantile, share

# The codes of calls that failed by a fault of ours, not of the caller's.
FAULTS = (
    "INTERNAL DB_ERROR TIMEOUT UNAVAILABLE BATCH_CONFLICT BOARDS_UNAVAILABLE DB_UNAVAILABLE "
    "FEED_UNAVAILABLE LOGIN_BUSY QUEUE_FULL QUEUED_FOR_REPLAY SERVICE_UNAVAILABLE STATEMENT_UNDONE"
).split()

ERROR_RATIO_MAX = 0.05
RESPONSE_MAX_S = 0.5
LOOP_LAG_MAX_S = 0.1
SHED_MAX_PER_S = 1


def group(durations: Durations) -> Group:
    window = durations.window
    # These two are written out: they are the seeds' own.
    errors = (
        f'sum by (service) (rate(http_requests_total{{code=~"5.."}}[{window}]))'
        f" / sum by (service) (rate(http_requests_total[{window}]))"
    )
    response_s = (
        "histogram_quantile(0.95, sum by (service, le)"
        f" (rate(http_request_duration_seconds_bucket[{window}])))"
    )
    faults = f'grpc_requests_total{{code=~"{"|".join(FAULTS)}"}}'
    loop_lag_s = quantile(0.95, "event_loop_lag_seconds", "service, pod", window)
    shed = f"sum by (service, reason) (rate(requests_shed_total[{window}]))"
    return Group(
        name="scoreboard-requests",
        rules=(
            Alert(
                name="HighErrorRate",
                expression=f"{errors} > {ERROR_RATIO_MAX}",
                lasts=durations.brief,
                severity="critical",
                summary="{{ $labels.service }} fails more than 5 % of requests",
                description="{{ $value | humanizePercentage }} of requests get a 5xx status.",
            ),
            Alert(
                name="HighResponseTime",
                expression=f"{response_s} > {RESPONSE_MAX_S}",
                lasts=durations.sustained,
                severity="warning",
                summary="{{ $labels.service }} takes more than 500 ms",
                description="5 % of requests take longer than {{ $value | humanizeDuration }}.",
            ),
            Alert(
                name="GrpcErrorRatio",
                expression=f"{share(faults, 'grpc_requests_total', 'service', window)}"
                f" > {ERROR_RATIO_MAX}",
                lasts=durations.brief,
                severity="warning",
                summary="{{ $labels.service }} fails more than 5 % of gRPC calls",
                description="{{ $value | humanizePercentage }} of calls fail by a fault of ours.",
            ),
            Alert(
                name="EventLoopLag",
                expression=f"{loop_lag_s} > {LOOP_LAG_MAX_S}",
                lasts=durations.sustained,
                severity="warning",
                summary="The event loop of {{ $labels.service }} is late by more than 100 ms",
                description="In {{ $labels.pod }} 5 % of timers run {{ $value | humanizeDuration }}"
                " late or more.",
            ),
            Alert(
                name="RequestsShed",
                expression=f"{shed} > {SHED_MAX_PER_S}",
                lasts=durations.brief,
                severity="warning",
                summary="{{ $labels.service }} refuses requests for want of capacity",
                description="{{ $value | humanize }} requests a second are refused:"
                " {{ $labels.reason }}.",
            ),
        ),
    )
