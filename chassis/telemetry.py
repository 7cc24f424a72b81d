"""Logs, traces and metrics of a process.

Logs are structlog JSON lines on stdout, one per request, each with a `stream`
(app, security, audit, error). OpenTelemetry is off unless an endpoint is set.
Metrics are Prometheus's, served on the operations port.
"""

import asyncio
import atexit
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
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
grpc_client_requests = Counter(
    "grpc_client_requests_total", "Unary calls made", ["unit", "method", "code"]
)
batch_items = Histogram(
    "batch_items", "Items in one flight", ["name"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
queue_items = Gauge("batch_queue_items", "Items waiting for a flight", ["name"])

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Line(msgspec.Struct, kw_only=True):
    """A kind of line that is written for every request; a class below it names the fields.

    Beside a `log.info` of the same fields it is the same line at a third of the cost.
    """

    event: str
    level: str = "info"
    timestamp: datetime = msgspec.field(default_factory=partial(datetime.now, UTC))
    unit: str = ""
    stream: str = "app"


def write(line: Line) -> None:
    """Writes the line, unless the process keeps quiet about what is at level info."""
    _write(line)


def _log(line: Line) -> None:
    """Writes the line as `log` does, while nothing else is set up."""
    fields = msgspec.structs.asdict(line)
    log.info(fields.pop("event"), **fields)


_write: Callable[[Line], None] = _log


def configure(unit: str, *, level: str, otlp_endpoint: str) -> None:
    """Sets up logs, and traces if there is an endpoint, once per process."""
    global _write
    lines = _Lines()
    structlog.configure(
        processors=[_renderer(unit)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    _write = _writer(lines, unit) if log.is_enabled_for(logging.INFO) else lambda line: None
    # Libraries speak through the standard logger; only their warnings are of use.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)
    if otlp_endpoint:
        _export_traces(unit, otlp_endpoint)


def span(name: str, headers: Mapping[str, str]) -> AbstractContextManager[object]:
    """A span around one request, the child of the one that `headers` (`traceparent`) name."""
    if not _tracing:
        return _NO_SPAN
    tracer = trace.get_tracer("scoreboard")
    return tracer.start_as_current_span(name, context=propagate.extract(headers))


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


def _renderer(unit: str) -> structlog.typing.Processor:
    """What makes a line of an event: one step, since five cost twice as much."""
    encode = msgspec.json.Encoder(enc_hook=str).encode

    def render(logger: Any, method: str, event: structlog.typing.EventDict) -> bytes:
        event["level"] = method
        if "exc_info" in event:
            event = structlog.processors.format_exc_info(logger, method, event)
        event["timestamp"] = datetime.now(UTC)
        event["unit"] = unit
        event.setdefault("stream", "error" if method in ("error", "critical") else "app")
        return encode(event)

    return render


def _writer(lines: "_Lines", unit: str) -> Callable[[Line], None]:
    encode = msgspec.json.Encoder().encode

    def write(line: Line) -> None:
        line.unit = unit
        lines.msg(encode(line))

    return write


class _Lines:
    """Writes lines to stdout: those of one turn of the event loop in one system call."""

    def __init__(self) -> None:
        self._out = sys.stdout.buffer
        self._waiting: list[bytes] = []
        self._flushes: asyncio.AbstractEventLoop | None = None
        atexit.register(self._flush)

    def msg(self, line: bytes) -> None:
        self._waiting.append(line)
        if self._flushes is not None and not self._flushes.is_closed():
            return
        try:
            self._flushes = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            self._flushes.call_soon(self._flush)

    debug = info = warning = error = critical = msg

    def _flush(self) -> None:
        self._flushes = None
        lines, self._waiting = self._waiting, []
        self._out.write(b"".join([line + b"\n" for line in lines]))
        self._out.flush()


class _Forward(logging.Handler):
    """Hands a library's record to our logger."""

    def emit(self, record: logging.LogRecord) -> None:
        write = log.error if record.levelno >= logging.ERROR else log.warning
        write("library_spoke", logger=record.name, text=record.getMessage())
