"""What a PromQL expression reads: its selectors, each a metric with the labels that it matches."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<range>\[[^\]]*\])
  | (?P<number>\d[\w.]*)
  | (?P<name>\$?[A-Za-z_][\w:]*)
  | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])
    """,
    re.VERBOSE,
)
# What takes a list of labels in brackets.
_GROUPINGS = frozenset("by without on ignoring group_left group_right".split())
# What follows the name of a function or an aggregation.
_CALLS = (["("], ["by"], ["without"])
_WORDS = _GROUPINGS | frozenset("and or unless offset bool".split())


@dataclass(frozen=True)
class Selector:
    metric: str
    labels: frozenset[str]  # those it matches


def selectors(expression: str) -> Iterator[Selector]:
    """Each selector of an expression. Raises ValueError where it cannot be read."""
    tokens = _tokens(expression)
    at = 0
    while at < len(tokens):
        token, at = tokens[at], at + 1
        if token in _GROUPINGS:
            at = _after(tokens, at, ")") if tokens[at] == "(" else at
        elif _is_name(token) and token not in _WORDS and tokens[at : at + 1] not in _CALLS:
            labels: frozenset[str] = frozenset()
            if tokens[at : at + 1] == ["{"]:
                end = _after(tokens, at, "}")
                labels = frozenset(each for each in tokens[at:end] if _is_name(each))
                at = end
            yield Selector(token, labels)


def groupings(expression: str) -> Iterator[frozenset[str]]:
    """The labels of each `by (…)`."""
    for found in re.finditer(r"\bby \(([^)]*)\)", expression):
        yield frozenset(re.findall(r"\w+", found[1]))


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise ValueError(f"at {at}: {expression[at:]!r}")
        at = found.end()
        if found.lastgroup not in ("space", "range"):
            tokens.append(found[0])
        if found[0] == "offset":
            at = _skip_duration(expression, at)
    return tokens


def _skip_duration(expression: str, at: int) -> int:
    found = re.compile(r"\s*\w+").match(expression, at)
    if found is None:
        raise ValueError(f"no duration at {at}: {expression!r}")
    return found.end()


def _is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] == "_"


def _after(tokens: list[str], at: int, end: str) -> int:
    return tokens.index(end, at) + 1
