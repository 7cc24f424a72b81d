"""Traces: OpenTelemetry's, off unless an endpoint is set."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import propagate, trace


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


def configure(unit: str, *, endpoint: str) -> None:
    """Sets up the export of traces of this process, once."""
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
