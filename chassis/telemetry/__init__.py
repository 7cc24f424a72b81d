"""Telemetry of a process: its logs, metrics and traces.

Logs are JSON lines on stdout, metrics are Prometheus's on the operations port, traces are
OpenTelemetry's and off unless an endpoint is set.
"""

from chassis.telemetry import logs, traces
from chassis.telemetry.logs import Line, log, write
from chassis.telemetry.metrics import (
    BUCKETS_S,
    batch_items,
    grpc_duration,
    grpc_requests,
    queue_items,
)
from chassis.telemetry.traces import span, trace_headers

__all__ = [
    "BUCKETS_S",
    "Line",
    "batch_items",
    "configure",
    "grpc_duration",
    "grpc_requests",
    "log",
    "queue_items",
    "span",
    "trace_headers",
    "write",
]


def configure(unit: str, *, level: str, otlp_endpoint: str) -> None:
    """Sets up logs, and traces if there is an endpoint, once per process."""
    logs.configure(unit, level=level)
    if otlp_endpoint:
        traces.configure(unit, endpoint=otlp_endpoint)
