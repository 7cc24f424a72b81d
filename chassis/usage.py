"""What a program's `--help` prints: its settings, read from the class that declares them."""

import argparse
import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

from chassis.settings import Between, OneOf, Variable, variables

_WIDTH = 96
_KINDS = {str: "text", int: "whole number", float: "number", bool: "on or off"}


def parser(settings_class: type) -> argparse.ArgumentParser:
    """The command line of `python -m <package>`, the package of `settings_class`.

    Its help ends with the settings.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {settings_class.__module__.rpartition('.')[0]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=(
            "Settings, each a variable of the environment. NAME may come as NAME_FILE instead,\n"
            f"the path of a file that holds the value.\n\n{settings(settings_class)}"
        ),
    )


def settings(
    cls: type, *, but: Collection[str] = (), defaults: Mapping[str, str] | None = None
) -> str:
    """Every variable that `cls` reads: name, kind, bounds, default, and what it is for.

    `but` names those to leave out, `defaults` gives other defaults than the class has.
    """
    entries = []
    for variable in variables(cls):
        if variable.name in but:
            continue
        default = (defaults or {}).get(variable.name) or shown(variable.default)
        default = default if default == "required" else f"default {default}"
        note = textwrap.fill(
            note_of(variable), _WIDTH, initial_indent="      ", subsequent_indent="      "
        )
        entries.append(f"  {variable.name}  ({_kind(variable.kind)}; {default})\n{note}")
    return "\n".join(entries)


def shown(default: object) -> str:
    """A setting's default as documents have it."""
    if default is dataclasses.MISSING:
        return "required"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, float):
        return f"{default:.15g}"
    if isinstance(default, tuple):
        return ",".join(map(str, default)) or "empty"
    return str(default) or "empty"


def note_of(variable: Variable) -> str:
    """What the variable is for: the comment beside its field, else the lines above it."""
    for owner in variable.owner.__mro__:
        if dataclasses.is_dataclass(owner) and variable.field in vars(owner)["__annotations__"]:
            return _notes(owner).get(variable.field, "")
    return ""


@lru_cache(maxsize=64)
def _notes(owner: type) -> dict[str, str]:
    """The comments of a class's own fields."""
    source = textwrap.dedent(inspect.getsource(owner))
    beside: dict[int, str] = {}
    alone: dict[int, str] = {}
    for part in tokenize.tokenize(io.BytesIO(source.encode()).readline):
        if part.type == tokenize.COMMENT:
            row, text = part.start[0], part.string.lstrip("# ")
            text = re.sub(r"\s*noqa:.*", "", text)
            (beside if part.line[: part.start[1]].strip() else alone)[row] = text
    notes: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            above = " ".join(alone[row] for row in range(first, node.lineno))
            notes[node.target.id] = beside.get(node.end_lineno or node.lineno) or above
    return notes


def _kind(kind: Any) -> str:
    kind, *bounds = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if get_origin(kind) is tuple:
        return "list, separated by commas"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", getattr(kind, "__name__", str(kind))).lower()
    parts = [_KINDS.get(kind, words)]
    for bound in bounds:
        if isinstance(bound, Between):
            parts.append(f"{bound.low:.15g} to {bound.high:.16g}")
        if isinstance(bound, OneOf):
            parts = [" or ".join(bound.values)]
    return ", ".join(parts)
