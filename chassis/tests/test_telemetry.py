"""Logs as JSON lines, of real processes."""

import asyncio
import json
import sys
from typing import Any


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
telemetry.configure("unit-x", level="info", otlp_endpoint="", sample_ratio=0)
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
telemetry.configure("unit-x", level="warning", otlp_endpoint="", sample_ratio=0)
telemetry.write(telemetry.Line(event="written"))
telemetry.log.warning("happened")
"""
    )

    assert [line["event"] for line in lines] == ["happened"]


async def test_without_an_endpoint_there_are_no_traces() -> None:
    (line,) = await _run(
        """
import sys
from chassis import telemetry
from chassis.telemetry import traces
telemetry.configure("unit-x", level="info", otlp_endpoint="", sample_ratio=1)
header = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
with traces.root({"traceparent": header}, None) as root:
    with traces.continued(lambda: header, None) as continued:
        telemetry.log.info("seen", spans=[root, continued], sdk="opentelemetry.sdk" in sys.modules)
telemetry.close()
"""
    )

    assert (line["spans"], line["sdk"]) == ([None, None], False)
