"""Metrics that every process has; Prometheus's, served on the operations port."""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # half of all series, and not used

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
dropped_spans = Counter("trace_spans_dropped_total", "Spans never sent, by reason", ["reason"])
for reason in ("queue_full", "collector"):  # there before the first, else it has no rate
    dropped_spans.labels(reason)
