"""Settings: one frozen value per process, read from the environment once, at the start.

A setting `drain_s` is read from `DRAIN_S`, or from the file that `DRAIN_S_FILE`
names (so that secrets come as mounted files). Every problem is reported at once.
The comment beside a setting is what `--help` says of it (`chassis.usage`).
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Between:
    """Bounds of a number, both inclusive: `Annotated[int, Between(1, 256)]`."""

    low: float
    high: float


@dataclass(frozen=True)
class OneOf:
    """The values a text may have: `Annotated[str, OneOf("on", "off")]`."""

    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Named:
    """The variable's name where it is not the field's: `Annotated[str, Named("LIMITS")]`."""

    name: str


class Group:
    """Settings with a prefix in common, all with defaults, as a frozen dataclass.

    Of a field `live` of such a class, the setting `ping_s` is read from `LIVE_PING_S`.
    """


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """The settings of every process; each unit's `Settings` adds its own."""

    host: str = "127.0.0.1"  # where the port is opened
    port: Annotated[int, Between(0, 65535)] = 0  # gRPC (HTTP on the edge); 0: any
    ops_host: str = "127.0.0.1"  # where the operations port is opened, never a public address
    ops_port: Annotated[int, Between(0, 65535)] = 0  # /livez, /readyz, /metrics; 0: any
    tls_dir: Path  # the folder of tls.crt, tls.key and ca.crt of this unit, PEM
    tls_check_s: Annotated[float, Between(0.01, 3600)] = 5.0  # between two looks for changes there
    # the least that is logged; debug: a line for each gRPC call too
    log_level: Annotated[str, OneOf("debug", "info", "warning", "error")] = "info"
    otlp_endpoint: str = ""  # where traces are sent; empty: there are none
    clock_offset_s: float = 0.0  # added to every clock; for tests
    batch_max: Annotated[int, Between(1, 256)] = 256  # items in one flight
    # after which gRPC callers connect again, so that new replicas get calls too; 0: never
    connection_age_s: Annotated[float, Between(0, 86400)] = 60.0
    drain_pause_s: Annotated[float, Between(0, 60)] = 0.0  # between "not ready" and refusing work
    drain_s: Annotated[float, Between(0, 300)] = 30.0  # for the requests in flight at the end


class SettingsError(Exception):
    """The environment does not fit; the message lists every problem, a line each."""


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


S = TypeVar("S", bound=_Dataclass)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable of the environment that a settings class reads."""

    name: str
    kind: Any  # the field's annotation
    default: Any  # dataclasses.MISSING where the variable is required
    owner: type  # the class of the field
    field: str


def variables(cls: type, *, prefix: str = "") -> list[Variable]:
    """All that `load(cls)` reads, in the order of the fields."""
    hints = get_type_hints(cls, include_extras=True)
    found: list[Variable] = []
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        name = prefix + _name(field.name, kind)
        if _is_group(kind):
            found += variables(kind, prefix=f"{name}_")
        else:
            found.append(
                Variable(name=name, kind=kind, default=field.default, owner=cls, field=field.name)
            )
    return found


def load(cls: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """The settings `cls`, a frozen dataclass, read from `environment`.

    Raises SettingsError naming every variable that is missing, unreadable or
    does not fit its type or bounds.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for variable in variables(cls):
        try:
            text = _read(variable.name, environment)
            if text is not None:
                values[variable.name] = _parse(text, variable.kind)
            elif variable.default is dataclasses.MISSING:
                problems.append(f"{variable.name}: is required (or {variable.name}_FILE)")
        except (ValueError, OSError) as problem:
            problems.append(f"{variable.name}: {problem}")
    if problems:
        raise SettingsError("\n".join(problems))
    return _made(cls, values)


def _made(cls: type[S], values: Mapping[str, Any], *, prefix: str = "") -> S:
    """`cls` with those values, by the names of their variables."""
    hints = get_type_hints(cls, include_extras=True)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        name = prefix + _name(field.name, kind)
        if _is_group(kind):
            given[field.name] = _made(kind, values, prefix=f"{name}_")
        elif name in values:
            given[field.name] = values[name]
    return cls(**given)


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Group)


def _name(field: str, kind: Any) -> str:
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((note.name for note in notes if isinstance(note, Named)), field.upper())


def _read(name: str, environment: Mapping[str, str]) -> str | None:
    path = environment.get(f"{name}_FILE")
    if path is None:
        return environment.get(name)
    if name in environment:
        raise ValueError(f"is given twice, as {name} and as {name}_FILE")
    return Path(path).read_text().rstrip("\n")


def _parse(text: str, kind: Any) -> Any:
    kind, *bounds = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"must be one of {', '.join(_BOOLEANS)}, not {text!r}")
        return _BOOLEANS[text.lower()]
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(_parse(part.strip(), item) for part in text.split(",") if part.strip())
    try:
        value = kind(text)
    except ValueError:
        # The value may be a secret, which Python's own types repeat and ours do not.
        if kind in (int, float):
            raise ValueError(f"must be of type {kind.__name__}") from None
        raise
    for bound in bounds:
        if isinstance(bound, Between) and not bound.low <= value <= bound.high:
            raise ValueError(f"must be between {bound.low:.16g} and {bound.high:.16g}, not {value}")
        if isinstance(bound, OneOf) and value not in bound.values:
            raise ValueError(f"must be one of {', '.join(bound.values)}, not {value!r}")
    return value


_BOOLEANS = {"true": True, "false": False, "on": True, "off": False, "1": True, "0": False}
