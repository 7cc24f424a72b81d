"""Traces: OpenTelemetry's spans, off unless an endpoint is set.

What is sampled is decided once, where a request enters. From there on a task has a span or has
none, and what is not sampled costs one look at a context variable. A call to a peer carries
`traceparent` where there is a span; a call without it is not sampled.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from random import random
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, cast

from grpc import StatusCode
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, Tracer
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chassis.errors import Failed

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Span  # Costs a fifth of a second to load.

TRACEPARENT = "traceparent"

# Of the status of a call: what the server is to blame for, as OpenTelemetry's conventions say.
_FAULTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)


class Described(NamedTuple):
    """What a span is of; nothing in it is a user's."""

    name: str
    kind: SpanKind
    attributes: Mapping[str, str | int | float]


P = ParamSpec("P")
Describe = Callable[P, Described]
Around = AbstractContextManager["Span | None"]


def span(describe: Describe[P], *args: P.args, **kwargs: P.kwargs) -> Around:
    """A span within the present one, as `describe(*args)` has it; none where nothing is sampled.

    What is raised through it becomes its status, by its code alone: texts of errors hold values.
    """
    parent = _span.get()
    if parent is None:
        return _NO_SPAN
    return _Within(_start(parent.get_span_context(), describe(*args, **kwargs)))


def root(
    headers: Mapping[str, str], describe: Describe[P], *args: P.args, **kwargs: P.kwargs
) -> Around:
    """A new trace, for the sampled share of what comes from outside.

    An outsider's `traceparent` decides nothing, else anyone could have everything sampled or
    add to others' traces. It is linked.
    """
    if random() >= _ratio:  # noqa: S311  Whom it falls on is no secret.
        return _NO_SPAN
    outside = _read(headers.get(TRACEPARENT))
    links = [Link(outside)] if outside else []
    return _Within(_start(None, describe(*args, **kwargs), links))


def continued(
    read: Callable[[], str | None], describe: Describe[P], *args: P.args, **kwargs: P.kwargs
) -> Around:
    """A span of the trace that another unit's call belongs to; none where that is not sampled.

    `read` finds the call's `traceparent`; it is not called while traces are off.
    """
    caller = _read(read()) if _tracing else None
    if caller is None or not caller.trace_flags.sampled:
        return _NO_SPAN
    return _Within(_start(caller, describe(*args, **kwargs)))


def joint(
    items: "Sequence[Span | None]", describe: Describe[P], *args: P.args, **kwargs: P.kwargs
) -> Around:
    """A span of what is done at once for several items, of which some are sampled.

    It and each sampled item are linked, both ways; its trace is the first one's.
    """
    sampled = [item for item in items if item is not None]
    if not sampled:
        return _NO_SPAN
    contexts = [item.get_span_context() for item in sampled]
    made = _start(contexts[0], describe(*args, **kwargs), [Link(each) for each in contexts])
    now_ns = time_ns()
    for item in sampled:
        item.set_attribute("batch.wait_s", (now_ns - (item.start_time or now_ns)) / 1e9)
        item.add_link(made.get_span_context())
    return _Within(made)


def sampled() -> bool:
    """Whether the present request is."""
    return _span.get() is not None


def trace_id() -> str | None:
    """The id of the present trace; None where nothing is sampled."""
    present = _span.get()
    return None if present is None else f"{present.get_span_context().trace_id:032x}"


def header(sampled: "Span") -> str:
    """The `traceparent` by which a peer continues from this span."""
    context = sampled.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def fail(failing: "Span", error: BaseException) -> None:
    """Puts the code of what was raised on a span.

    A server's span has the status of an error only where the server is to blame.
    """
    if isinstance(error, TimeoutError):
        code, blame = "TIMEOUT", True
    elif isinstance(error, Failed):
        code, blame = error.code, error.status in _FAULTS
    else:
        code, blame = getattr(error, "sqlstate", None) or type(error).__name__, True
    fail_with(failing, code, blame=blame or failing.kind is not SpanKind.SERVER)


def fail_with(failing: "Span", code: str, *, blame: bool) -> None:
    """Puts a failure's code on a span; `blame`: as its status too."""
    failing.set_attribute("error.type", code)
    if blame:
        failing.set_status(Status(SpanStatus.ERROR, code))


class _Within:
    """The span of what happens within."""

    __slots__ = ("_entered", "_span")
    _entered: Any

    def __init__(self, started: "Span") -> None:
        self._span = started

    def __enter__(self) -> "Span":
        self._entered = _span.set(self._span)
        return self._span

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        _span.reset(self._entered)
        if error is not None:
            fail(self._span, error)
        self._span.end()


_NO_SPAN: Around = nullcontext()
_span: "ContextVar[Span | None]" = ContextVar("span", default=None)
_ratio = 0.0  # of what comes from outside, how much is sampled
_tracing = False
_tracer: Tracer = trace.NoOpTracer()
_PROPAGATOR = TraceContextTextMapPropagator()


def configure(tracer: Tracer, *, ratio: float) -> None:
    """Has `tracer` make the spans; once per process. It samples all that it is given."""
    global _ratio, _tracer, _tracing
    _tracer, _ratio, _tracing = tracer, ratio, True


def _start(parent: SpanContext | None, described: Described, links: Sequence[Link] = ()) -> "Span":
    name, kind, attributes = described
    context = Context()
    if parent is not None:
        context = trace.set_span_in_context(NonRecordingSpan(parent), context)
    return cast("Span", _tracer.start_span(name, context, kind, attributes, links))


def _read(header: str | None) -> SpanContext | None:
    """The span that a `traceparent` names; None where it names none."""
    if not header:
        return None
    found = trace.get_current_span(_PROPAGATOR.extract({TRACEPARENT: header}, Context()))
    context = found.get_span_context()
    return context if context.is_valid else None
