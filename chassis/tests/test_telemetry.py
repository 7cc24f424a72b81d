"""Logs as JSON lines, and traces that cross processes, of real processes."""

import asyncio
import json
import sys
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2 as messages,
)
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2_grpc as stubs,
)

from chassis.testing import eventually


async def _run(code: str, *arguments: str) -> list[dict[str, Any]]:
    """What a process that runs `code` writes to stdout, a JSON object a line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


async def test_every_log_line_is_json_and_says_whose_and_of_which_stream() -> None:
    lines = await _run(
        """
import logging
from chassis import telemetry
from chassis.telemetry import log
telemetry.configure("unit-x", level="info", otlp_endpoint="")
log.debug("too_quiet")
log.info("happened", n=1)
log.info("refused", stream="security")
class Written(telemetry.Line):
    n: int
telemetry.write(Written(2, event="written"))
log.info('forged\\n{"event": "x"}')
logging.getLogger("library").warning("of %s", "interest")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""
    )

    assert [(line["event"], line["level"], line["stream"]) for line in lines] == [
        ("happened", "info", "app"),
        ("refused", "info", "security"),
        ("written", "info", "app"),
        ('forged\n{"event": "x"}', "info", "app"),
        ("library_spoke", "warning", "app"),
        ("failed", "error", "error"),
    ]
    assert {line["unit"] for line in lines} == {"unit-x"}
    assert (lines[0]["n"], lines[2]["n"]) == (1, 2)
    assert list(lines[0]) == list(lines[2])  # however it is written
    assert lines[4]["text"] == "of interest"
    assert "ZeroDivisionError" in lines[5]["exception"]


async def test_a_process_that_keeps_quiet_writes_no_line_of_a_request_either() -> None:
    lines = await _run(
        """
from chassis import telemetry
telemetry.configure("unit-x", level="warning", otlp_endpoint="")
telemetry.write(telemetry.Line(event="written"))
telemetry.log.warning("happened")
"""
    )

    assert [line["event"] for line in lines] == ["happened"]


class _Collector(stubs.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def Export(
        self, request: messages.ExportTraceServiceRequest, context: Any
    ) -> messages.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return messages.ExportTraceServiceResponse()


SPANS = """
import sys
from chassis import telemetry
telemetry.configure("unit-x", level="info", otlp_endpoint=sys.argv[1])
with telemetry.span("outer", {}):
    headers = telemetry.trace_headers()
with telemetry.span("inner", headers):
    print('{"carried": %s}' % str("traceparent" in headers).lower())
"""


async def test_a_trace_goes_on_where_the_headers_are_taken() -> None:
    collector = _Collector()
    server = grpc.aio.server()
    stubs.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await _run(SPANS, f"http://127.0.0.1:{port}") == [{"carried": True}]

        async def both() -> bool:
            return len(collector.spans) == 2

        await eventually(both)
    finally:
        await server.stop(0)
    outer, inner = sorted(collector.spans, key=lambda span: str(span.name), reverse=True)
    assert (outer.name, inner.name) == ("outer", "inner")
    assert inner.trace_id == outer.trace_id
    assert inner.parent_span_id == outer.span_id


async def test_without_an_endpoint_there_are_no_traces() -> None:
    assert await _run(SPANS, "") == [{"carried": False}]
