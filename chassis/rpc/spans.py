"""Calls as spans, by OpenTelemetry's conventions for RPC."""

from opentelemetry.trace import SpanKind

from chassis.telemetry.traces import Described


def called(method: str) -> Described:
    """A call that this unit makes; `method` is gRPC's path."""
    return _described(method, SpanKind.CLIENT)


def served(method: str) -> Described:
    """A call that this unit answers."""
    return _described(method, SpanKind.SERVER)


def _described(method: str, kind: SpanKind) -> Described:
    name = method.removeprefix("/")
    return Described(name, kind, {"rpc.system.name": "grpc", "rpc.method": name})
