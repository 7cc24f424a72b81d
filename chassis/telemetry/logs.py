"""Logs: structlog JSON lines on stdout, one per request, each with a `stream`.

The streams are app, security, audit and error.
"""

import asyncio
import atexit
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO

import msgspec
import structlog

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
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(line).items()
        if value is not msgspec.UNSET
    }
    log.info(fields.pop("event"), **fields)


_write: Callable[[Line], None] = _log


def configure(unit: str, *, level: str, out: BinaryIO | None = None) -> None:
    """Sets up the logs of this process, once; lines go to `out`, else to stdout."""
    global _write
    lines = _Lines(out or sys.stdout.buffer)
    structlog.configure(
        processors=[_renderer(unit)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    _write = _writer(lines, unit) if log.is_enabled_for(logging.INFO) else lambda line: None
    logging.captureWarnings(True)
    # Libraries speak through the standard logger; only their warnings are of use.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


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
    """Writes lines: those of one turn of the event loop in one system call."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
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
