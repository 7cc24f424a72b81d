"""The parameters of queries: numbers within bounds, periods, cursors."""

import re
from functools import partial
from typing import Any

from gateway.edge.head import REQUIRED, Parameter

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_PERIOD = re.compile(r"current|previous|all|[0-9]{8}T[0-9]{6}Z")
_CURSOR = re.compile(r"[A-Za-z0-9_.=-]{1,512}")


def number(name: str, *, low: int, high: int, default: Any = REQUIRED) -> Parameter:
    """A whole number from `low` to `high`."""
    return Parameter(
        name=name,
        read=partial(_number, low=low, high=high),
        code="OUT_OF_RANGE",
        detail=f"A whole number from {low} to {high}.",
        default=default,
    )


def _number(text: str, *, low: int, high: int) -> int:
    if not (_INTEGER.fullmatch(text) and low <= int(text) <= high):
        raise ValueError(text)
    return int(text)


def _period(text: str) -> str:
    return "" if text == "current" else _matching(_PERIOD, text)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


# `current` is an empty value, as the contract with scores has it.
PERIOD = Parameter(
    name="period",
    read=_period,
    code="INVALID",
    detail="current, previous, or an id such as 20261102T000000Z.",
    default="",
)
# The `nextCursor` of an earlier answer; empty for the first page.
CURSOR = Parameter(
    name="cursor",
    read=partial(_matching, _CURSOR),
    code="INVALID",
    detail="The nextCursor of an earlier answer.",
    default="",
)
# An access token, on the live channel's handshake; one that is not valid ends the socket.
TOKEN = Parameter(name="token", read=str, code="INVALID", detail="An access token.", default=None)
