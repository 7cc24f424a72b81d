"""Alerts on awards: the ledger, the boards, the live channel and fraud."""

from deploy.monitoring.durations import Durations
from deploy.monitoring.rules import Alert, Group, Record, grew, quantile

OUTBOX_AGE_MAX_S = 10
FRAME_LAG_MAX_S = 0.2
FEED_BEHIND_MAX_S = 10
OVERDUE_MAX_S = 60
ANOMALIES_MIN_PER_S = 0.1
ANOMALIES_TIMES_USUAL = 3
STREAM_RATIO_MAX = 0.9

ANOMALIES = "rule:scoreboard_anomaly_events:rate"


def groups(durations: Durations) -> tuple[Group, ...]:
    return _ledger(durations), _boards(durations), _fraud(durations)


def _ledger(durations: Durations) -> Group:
    rejected = 'scoreboard_journal_items_total{outcome=~"full|forged|unwritable|stuck"}'
    return Group(
        name="scoreboard-ledger",
        rules=(
            Alert(
                name="LedgerUnavailable",
                expression="max by (service) (scoreboard_ledger_unavailable) > 0",
                lasts=durations.moment,
                severity="critical",
                summary="Awards do not reach Postgres",
                description="Verified awards wait in Redis and are answered with 503.",
            ),
            Alert(
                name="ReplayJournalNotEmpty",
                expression="max by (service) (scoreboard_journal_waiting) > 0",
                lasts=durations.brief,
                severity="warning",
                summary="Awards wait in the replay journal",
                description="{{ $value }} awards wait in Redis for Postgres.",
            ),
            Alert(
                name="JournalItemsRejected",
                expression=grew(rejected, "service, outcome", durations.window),
                severity="critical",
                summary="Items of the replay journal are {{ $labels.outcome }}",
                description="{{ $value | humanize }} awards could not be queued or replayed.",
            ),
            Alert(
                name="LedgerMismatch",
                expression=grew("scoreboard_ledger_mismatches_total", "service", durations.window),
                severity="critical",
                summary="Scores in Postgres differ from the ledger",
                description="{{ $value | humanize }} places are not the sum of their awards.",
            ),
            Alert(
                name="RelayLag",
                expression=f"max by (service) (scoreboard_outbox_age_seconds) > {OUTBOX_AGE_MAX_S}",
                lasts=durations.brief,
                severity="warning",
                summary="Awards are published more than 10 s late",
                description="The oldest award in the outbox is {{ $value | humanizeDuration }}"
                " old.",
            ),
        ),
    )


def _boards(durations: Durations) -> Group:
    window = durations.window
    frame_lag_s = quantile(0.95, "scoreboard_award_to_frame_seconds", "service", window)
    return Group(
        name="scoreboard-boards",
        rules=(
            Alert(
                name="AwardToFrameLag",
                expression=f"{frame_lag_s} > {FRAME_LAG_MAX_S}",
                lasts=durations.sustained,
                severity="warning",
                summary="Watching pages see awards more than 200 ms late",
                description="5 % of awards reach the sockets after {{ $value | humanizeDuration }}"
                " or more.",
            ),
            Alert(
                name="DriftRepaired",
                expression=grew("scoreboard_drift_repaired_total", "service, board", window),
                severity="warning",
                summary="The auditor repaired the board {{ $labels.board }}",
                description="{{ $value | humanize }} places in Redis differed from Postgres.",
            ),
            Alert(
                name="BoardRebuilt",
                expression=grew("scoreboard_boards_rebuilt_total", "service, board", window),
                severity="warning",
                summary="The board {{ $labels.board }} was rebuilt from Postgres",
                description="Redis had lost it: {{ $value | humanize }} times within the window.",
            ),
            Alert(
                name="PeriodOverdue",
                expression="max by (service) (scoreboard_period_overdue_seconds)"
                f" > {OVERDUE_MAX_S}",
                lasts=durations.moment,
                severity="warning",
                summary="A period ended and is not closed",
                description="The oldest end is {{ $value | humanizeDuration }} ago.",
            ),
        ),
    )


def _fraud(durations: Durations) -> Group:
    rate = f"sum by (rule) (rate(scoreboard_anomaly_events_total[{durations.window}]))"
    usual = f"avg_over_time({ANOMALIES}[{durations.baseline}] offset {durations.baseline_age})"
    behind = "max by (service, pod, feed) (feed_behind_seconds)"
    entries = "max by (service, stream) (redis_stream_entries / redis_stream_entries_max)"
    bytes_ = "max by (service, stream) (redis_stream_bytes / redis_stream_bytes_max)"
    uncounted = f"sum by (service) (rate(fraud_uncounted_total[{durations.window}]))"
    return Group(
        name="scoreboard-fraud",
        rules=(
            Record(name=ANOMALIES, expression=rate),
            Alert(
                name="AnomalyScorePattern",
                expression=f"{ANOMALIES} > {ANOMALIES_MIN_PER_S}"
                f" unless {ANOMALIES} <= {ANOMALIES_TIMES_USUAL} * {usual}",
                lasts=durations.brief,
                severity="warning",
                summary="Unusually many anomalies of scores: {{ $labels.rule }}",
                description="{{ $value | humanize }} a second, more than three times as many as"
                " usual.",
                labels={"service": "fraud"},
            ),
            Alert(
                name="DenyListLag",
                expression=f"{behind} > {FEED_BEHIND_MAX_S}",
                lasts=durations.brief,
                severity="critical",
                summary="{{ $labels.service }} applies sanctions late",
                description="{{ $labels.pod }} was last up to date with {{ $labels.feed }}"
                " {{ $value | humanizeDuration }} ago.",
            ),
            Alert(
                name="FraudCatchUpBehind",
                expression="max by (service) (fraud_awards_behind_seconds) > 0",
                lasts=durations.hour,
                severity="warning",
                summary="Fraud has been catching up for an hour",
                description="Its copy of the awards is {{ $value | humanizeDuration }} behind.",
            ),
            Alert(
                name="AttemptsUncounted",
                expression=f"{uncounted} > 0",
                lasts=durations.brief,
                severity="warning",
                summary="Fraud judges attempts that it cannot count",
                description="{{ $value | humanize }} attempts a second, since Redis is"
                " unavailable to it.",
            ),
            Alert(
                name="StreamNearBound",
                expression=f"{entries} > {STREAM_RATIO_MAX} or {bytes_} > {STREAM_RATIO_MAX}",
                lasts=durations.lasting,
                severity="warning",
                summary="The stream {{ $labels.stream }} is near its bound",
                description="It is {{ $value | humanizePercentage }} full: what is trimmed next may"
                " be younger than its age limit.",
            ),
        ),
    )
