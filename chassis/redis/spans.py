"""Commands as spans, by OpenTelemetry's conventions for Redis."""

from collections.abc import Sequence

from opentelemetry.trace import SpanKind

from chassis.redis.link import Command
from chassis.telemetry.traces import Described


def described(commands: Sequence[Command], script: str = "") -> Described:
    """Commands that are sent together, by their names alone, or by their script's."""
    names = list(dict.fromkeys(str(command[0]) for command in commands))
    operation = names[0] if len(names) == 1 else "PIPELINE"
    attributes: dict[str, str | int] = {"db.system.name": "redis", "db.operation.name": operation}
    if script:
        attributes["db.stored_procedure.name"] = script
    elif len(names) > 1:
        attributes["db.query.summary"] = " ".join(names)
    if len(commands) > 1:
        attributes["db.operation.batch.size"] = len(commands)
    return Described(f"{operation} {script}".rstrip(), SpanKind.CLIENT, attributes)
