"""What stands in a query: numbers within bounds, periods, cursors. All raise ValidationFailed."""

import re
from typing import NoReturn

from chassis.errors import FieldError
from gateway.edge.errors import ValidationFailed
from gateway.edge.request import Request

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_PERIOD = re.compile(r"current|previous|all|[0-9]{8}T[0-9]{6}Z")
_CURSOR = re.compile(r"[A-Za-z0-9_.=-]{1,512}")


def number(request: Request, name: str, *, low: int, high: int, default: int | None = None) -> int:
    """A whole number; `default` where there is none, which is refused without a default."""
    text = request.http.query.get(name)
    if text is None:
        if default is None:
            _refuse(name, "REQUIRED", "This parameter is required.")
        return default
    if not (_INTEGER.fullmatch(text) and low <= int(text) <= high):
        _refuse(name, "OUT_OF_RANGE", f"A whole number from {low} to {high}.")
    return int(text)


def period(request: Request) -> str:
    """`current`, `previous` or a period's id; empty where there is none."""
    text = request.http.query.get("period", "current")
    if not _PERIOD.fullmatch(text):
        _refuse("period", "INVALID", "current, previous, or an id such as 20261102T000000Z.")
    return "" if text == "current" else text


def cursor(request: Request) -> str:
    """The `nextCursor` of an earlier answer; empty where there is none."""
    text = request.http.query.get("cursor", "")
    if text and not _CURSOR.fullmatch(text):
        _refuse("cursor", "INVALID", "The nextCursor of an earlier answer.")
    return text


def _refuse(name: str, code: str, detail: str) -> NoReturn:
    raise ValidationFailed(errors=[FieldError(name, code, detail)])
