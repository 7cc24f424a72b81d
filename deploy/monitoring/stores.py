"""Alerts on Postgres and Redis, as our processes see them."""

from deploy.monitoring.durations import Durations
from deploy.monitoring.rules import Alert, Group, grew, share

POOL_RATIO_MAX = 0.8
MEMORY_RATIO_MAX = 0.9
ERRORS_MAX_PER_S = 0.1
PRIMARY_RATIO_MAX = 0.5


def group(durations: Durations) -> Group:
    window = durations.window
    pool = (
        "max by (service, pod, pool)"
        " (postgres_pool_connections_in_use / postgres_pool_connections_max)"
    )
    memory = "max by (service, node) (redis_memory_used_bytes / (redis_memory_max_bytes > 0))"
    unset = "max by (service, node) (redis_memory_max_bytes)"
    replica_reads = "postgres_replica_reads_total"
    primary = share(f'{replica_reads}{{server="primary"}}', replica_reads, "service", window)
    return Group(
        name="scoreboard-stores",
        rules=(
            Alert(
                name="DatabasePoolNearlyFull",
                expression=f"{pool} > {POOL_RATIO_MAX}",
                lasts=durations.brief,
                severity="warning",
                summary="{{ $labels.service }} uses more than 80 % of its connections to Postgres",
                description="{{ $value | humanizePercentage }} of the pool {{ $labels.pool }} of"
                " {{ $labels.pod }} are in use.",
            ),
            Alert(
                name="PostgresErrors",
                expression=f"sum by (service) (rate(postgres_errors_total[{window}]))"
                f" > {ERRORS_MAX_PER_S}",
                lasts=durations.brief,
                severity="warning",
                summary="{{ $labels.service }} gets errors of Postgres",
                description="{{ $value | humanize }} a second; their classes are in"
                " postgres_errors_total.",
            ),
            Alert(
                name="StatementsRefused",
                expression=grew('grpc_requests_total{code="DB_ERROR"}', "service", window),
                severity="warning",
                summary="Postgres refuses a statement of {{ $labels.service }}",
                description="{{ $value | humanize }} calls returned DB_ERROR: another try does not"
                " help.",
            ),
            Alert(
                name="ReplicaBehind",
                expression=f"{primary} > {PRIMARY_RATIO_MAX}",
                lasts=durations.sustained,
                severity="warning",
                summary="The replica is too far behind, or unavailable",
                description="{{ $value | humanizePercentage }} of its reads go to the primary.",
            ),
            Alert(
                name="RedisErrors",
                expression=f"sum by (service) (rate(redis_errors_total[{window}]))"
                f" > {ERRORS_MAX_PER_S}",
                lasts=durations.brief,
                severity="warning",
                summary="{{ $labels.service }} gets errors of Redis",
                description="{{ $value | humanize }} commands a second fail.",
            ),
            Alert(
                name="RedisMemoryNearlyFull",
                expression=f"{memory} > {MEMORY_RATIO_MAX}",
                lasts=durations.sustained,
                severity="critical",
                summary="Redis uses more than 90 % of its memory",
                description="{{ $value | humanizePercentage }} of maxmemory on {{ $labels.node }}.",
            ),
            Alert(
                name="RedisMaxMemoryUnset",
                expression=f"{unset} == 0",
                lasts=durations.sustained,
                severity="warning",
                summary="Redis has no maxmemory",
                description="{{ $labels.node }} may take all memory of its machine.",
            ),
        ),
    )
