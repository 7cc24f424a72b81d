"""Logs, traces and metrics of a process.

Logs are structlog JSON lines on stdout, one per request, each with a `stream`
(app, security, audit, error). OpenTelemetry is off unless an endpoint is set.
Metrics are Prometheus's, served on the operations port.
"""

import asyncio
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from opentelemetry import propagate, trace
from prometheus_client import Counter, Gauge, Histogram

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

grpc_requests = Counter("grpc_requests_total", "Calls answered", ["method", "code"])
grpc_duration = Histogram(
    "grpc_request_duration_seconds", "Time to answer a call", ["method"], buckets=BUCKETS_S
)
batch_items = Histogram(
    "batch_items", "Items in one flight", ["name"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
queue_items = Gauge("batch_queue_items", "Items waiting for a flight", ["name"])

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def configure(unit: str, *, level: str, otlp_endpoint: str) -> None:
    """Sets up logs, and traces if there is an endpoint, once per process."""
    structlog.configure(
        wrapper_class=_logger(structlog.make_filtering_bound_logger(level), unit),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    # Libraries speak through the standard logger; only what they warn of is ours to hear.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)
    if otlp_endpoint:
        _export_traces(unit, otlp_endpoint)


def span(name: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """A span around one request, the child of the one that `headers` (`traceparent`) name."""
    return _span(name, headers) if _tracing else _NO_SPAN


@contextmanager
def _span(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    tracer = trace.get_tracer("scoreboard")
    with tracer.start_as_current_span(name, context=propagate.extract(headers)):
        yield


def trace_headers() -> dict[str, str]:
    """What a peer needs to continue the present trace; empty while traces are off."""
    headers: dict[str, str] = {}
    if _tracing:
        propagate.inject(headers)
    return headers


_tracing = False
_NO_SPAN = nullcontext()


def _export_traces(unit: str, endpoint: str) -> None:
    # Imported here, since the exporter costs a fifth of a second to load.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    global _tracing
    provider = TracerProvider(resource=Resource.create({"service.name": unit}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    _tracing = True


def _logger(filtering: type[Any], unit: str) -> type[Any]:
    """structlog's logger with one step in the place of its chain, which cost as much again."""
    encode = msgspec.json.Encoder(enc_hook=str).encode

    class Logger(filtering):  # type: ignore[misc]  # Which class it is, the level decides.
        def _proxy_to_logger(self, method_name: str, event: str | None = None, **said: Any) -> None:
            if self._context:
                said = {**self._context, **said}
            said["event"] = event
            said["level"] = method_name
            if "exc_info" in said:
                said = {**structlog.processors.format_exc_info(self._logger, method_name, said)}
            said["timestamp"] = datetime.now(UTC)
            said["unit"] = unit
            if "stream" not in said:
                said["stream"] = "error" if method_name in ("error", "critical") else "app"
            self._logger.msg(encode(said))

    return Logger


class _Lines:
    """Writes lines to stdout: those of one turn of the event loop in one system call."""

    def __init__(self, *_: Any) -> None:
        self._out = sys.stdout.buffer
        self._flushes: asyncio.AbstractEventLoop | None = None

    def msg(self, line: bytes) -> None:
        self._out.write(line + b"\n")
        if self._flushes is not None and not self._flushes.is_closed():
            return
        try:
            self._flushes = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            self._flushes.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushes = None
        self._out.flush()


class _Forward(logging.Handler):
    """Hands a library's record to our logger."""

    def emit(self, record: logging.LogRecord) -> None:
        write = log.error if record.levelno >= logging.ERROR else log.warning
        write("library_spoke", logger=record.name, text=record.getMessage())
