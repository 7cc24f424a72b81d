"""The use of Redis, as the metrics show it."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from chassis import telemetry

took_s = Histogram(
    "redis_command_seconds",
    "From the sending of commands that leave together to the last answer; not of those that block",
    buckets=telemetry.BUCKETS_S,
)
errors = Counter("redis_errors_total", "Calls that failed, and error replies")
_in_flight = Gauge(
    "redis_commands_in_flight", "Commands that wait for their answers; not those that block"
)


def count_in_flight(count: Callable[[], int]) -> None:
    """Has `count` called at every scrape."""
    _in_flight.set_function(count)
