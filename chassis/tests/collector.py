"""A collector of traces on loopback: OpenTelemetry's own service, which keeps what it gets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as stubs


@dataclass(kw_only=True, frozen=True)
class Span:
    """One span, as it was exported; ids in hexadecimal digits."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]  # trace id, span id
    error: str | None  # the text of its status; None: it is not an error's
    events: list[str]
    began_ns: int
    ended_ns: int

    @property
    def place(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


@dataclass
class Collector(stubs.TraceServiceServicer):
    """What was exported."""

    spans: list[Span] = field(default_factory=list)
    url: str = ""

    def Export(
        self, request: messages.ExportTraceServiceRequest, context: Any
    ) -> messages.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_span(service, each) for each in scope.spans]
        return messages.ExportTraceServiceResponse()

    def one(self, service: str, name: str) -> Span:
        """The only span of that unit and name."""
        (found,) = [s for s in self.spans if (s.service, s.name) == (service, name)]
        return found

    def child(self, parent: Span, service: str, name: str) -> Span:
        """The only span of that unit and name right below `parent`."""
        (found,) = [
            s
            for s in self.spans
            if (s.service, s.name, s.trace_id, s.parent_id)
            == (service, name, parent.trace_id, parent.span_id)
        ]
        return found

    def below(self, parent: Span) -> list[Span]:
        """The spans right below `parent`."""
        place = parent.trace_id, parent.span_id
        return [span for span in self.spans if (span.trace_id, span.parent_id) == place]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens within the context, in threads of its own."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    stubs.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(0).wait()


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        error=span.status.message if span.status.code == 2 else None,
        events=[event.name for event in span.events],
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
