"""Telemetry of a process: its logs, metrics and traces.

Logs are JSON lines on stdout, metrics are Prometheus's on the operations port, traces are
OpenTelemetry's and off unless an endpoint is set.
"""

import sys
from typing import Any

from chassis.telemetry import logs, traces
from chassis.telemetry.logs import Line, log, write
from chassis.telemetry.metrics import (
    BUCKETS_S,
    batch_items,
    grpc_client_requests,
    grpc_duration,
    grpc_requests,
    queue_items,
)

__all__ = [
    "BUCKETS_S",
    "Line",
    "batch_items",
    "close",
    "command_run",
    "configure",
    "configure_command",
    "grpc_client_requests",
    "grpc_duration",
    "grpc_requests",
    "log",
    "queue_items",
    "traces",
    "write",
]

_exporter: Any = None  # of spans, where there is an endpoint


def configure(unit: str, *, level: str, otlp_endpoint: str, sample_ratio: float) -> None:
    """Sets up logs, and traces if there is an endpoint, once per process."""
    global _exporter
    logs.configure(unit, level=level)
    if otlp_endpoint:
        # Imported here, since it takes a fifth of a second to load.
        from chassis.telemetry import export

        _exporter = export.Exporter(otlp_endpoint)
        traces.configure(export.tracer(unit, _exporter), ratio=sample_ratio)


def configure_command(unit: str) -> None:
    """Sets up the logs of an operator's command, once: on stderr, from warnings up."""
    logs.configure(unit, level="warning", out=sys.stderr.buffer)


def command_run(command: str, /, **fields: object) -> None:
    """Writes that an operator ran a command, into the stream `audit`."""
    log.warning("command_run", stream="audit", command=command, **fields)


def close() -> None:
    """Sends the spans that wait, within 5 s: the last thing that a process does."""
    if _exporter is not None:
        _exporter.close()
