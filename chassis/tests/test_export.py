"""Sending spans: none waits for it, none is lost in silence, a process ends in time."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis.telemetry import export
from chassis.tests.collector import collecting

REASONS = ("queue_full", "collector")


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a collector that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def absent() -> str:
    """The address of no collector."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def exporting(endpoint: str) -> Iterator[export.Exporter]:
    exporter = export.Exporter(endpoint)
    try:
        yield exporter
    finally:
        exporter.close()


def _end(exporter: export.Exporter, *, count: int) -> None:
    """Ends that many spans at once."""
    tracer = export.tracer("unit-x", exporter)
    for _ in range(count):
        tracer.start_span("x").end()


def _dropped() -> dict[str, float]:
    name = "trace_spans_dropped_total"
    return {r: REGISTRY.get_sample_value(name, {"reason": r}) or 0.0 for r in REASONS}


def _since(before: dict[str, float]) -> dict[str, float]:
    return {reason: count - before[reason] for reason, count in _dropped().items()}


def test_what_waits_at_the_end_is_sent() -> None:
    before = _dropped()
    with collecting() as collector:
        with exporting(collector.url) as exporter:
            _end(exporter, count=1000)

        assert [span.name for span in collector.spans] == ["x"] * 1000
        assert {span.service for span in collector.spans} == {"unit-x"}
    assert _since(before) == {"queue_full": 0, "collector": 0}


def test_an_absent_collector_costs_spans_but_no_time(absent: str) -> None:
    before = _dropped()
    with capture_logs() as lines:
        began_s = time.monotonic()
        with exporting(absent) as exporter:
            _end(exporter, count=1000)
        took_s = time.monotonic() - began_s

    assert took_s < export.CLOSE_S + 1
    assert [line["event"] for line in lines] == ["spans_dropped", "spans_left"]
    assert _since(before) == {"queue_full": 0, "collector": 1000}


def test_a_silent_collector_holds_up_no_end_beyond_5_s(silent: str) -> None:
    before = _dropped()
    with exporting(silent) as exporter:
        _end(exporter, count=10)
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s

    assert took_s < export.CLOSE_S + 1
    assert _since(before)["collector"] == 10


def test_spans_beyond_the_queue_are_dropped_and_counted(silent: str) -> None:
    before = _dropped()
    with exporting(silent) as exporter:
        _end(exporter, count=export.QUEUE_MAX + 5000)

    # While the thread has some of them in its hands, as many more fit.
    full = _since(before)["queue_full"]
    assert 5000 - 2 * export.SPANS_AT_ONCE <= full <= 5000
