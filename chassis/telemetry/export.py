"""Sends ended spans to a collector, by OTLP over gRPC.

Loaded only where there is an endpoint: OpenTelemetry's SDK takes a fifth of a second.
"""

import logging
import threading
from collections import deque

from grpc import StatusCode
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from chassis.telemetry.logs import log
from chassis.telemetry.metrics import dropped_spans

QUEUE_MAX = 4096  # spans that wait
SPANS_AT_ONCE = 512  # in one call
PAUSE_S = 1.0  # between looks at the queue
SEND_S = 2.0  # one call may take
CLOSE_S = 5.0  # for what waits at the end
LINKS_MAX = 256  # of a span; as many as a batch has items


class Exporter(SpanProcessor):
    """A bounded queue and the thread that empties it: ending a span never waits.

    Spans that do not fit, and those that the collector does not take, are dropped and counted.
    """

    def __init__(self, endpoint: str) -> None:
        # A retry within the call would hold up all others; no status of a collector is this one.
        retried = frozenset({StatusCode.ALREADY_EXISTS})
        self._sender = OTLPSpanExporter(
            endpoint=endpoint, timeout=SEND_S, retryable_error_codes=retried
        )
        self._queue: deque[ReadableSpan] = deque()
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Queues the span, or drops it."""
        if len(self._queue) >= QUEUE_MAX:
            dropped_spans.labels("queue_full").inc()
        else:
            self._queue.append(span)

    def close(self) -> None:
        """Sends what waits, within 5 s."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        self._sender.shutdown()
        if left := len(self._queue):
            dropped_spans.labels("collector").inc(left)
            log.warning("spans_left", count=left)

    def _run(self) -> None:
        while not self._closing.wait(PAUSE_S):
            self._send()
        self._send()

    def _send(self) -> None:
        """Sends all that waits, up to the first call that fails."""
        while self._queue:
            count = min(len(self._queue), SPANS_AT_ONCE)
            spans = [self._queue.popleft() for _ in range(count)]
            failed = not self._sent(spans)
            if failed:
                dropped_spans.labels("collector").inc(count)
            if failed != self._failing:
                self._failing = failed
                log.warning("spans_dropped" if failed else "spans_taken_again")
            if failed:
                return

    def _sent(self, spans: list[ReadableSpan]) -> bool:
        try:
            return self._sender.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:
            # What the sender cannot encode or the channel cannot do must not end the thread.
            log.warning("export_crashed", error=repr(error))
            return False


def tracer(unit: str, exporter: SpanProcessor) -> Tracer:
    """Makes spans of `unit`, all of them sampled, and passes them to `exporter` as they end."""
    provider = TracerProvider(
        ALWAYS_ON,
        Resource.create({"service.name": unit, "service.namespace": "scoreboard"}),
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_links=LINKS_MAX),
    )
    provider.add_span_processor(exporter)
    # The exporter reports the same trouble at every call.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    return provider.get_tracer("chassis.telemetry")
