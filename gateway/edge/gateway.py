"""Which endpoint answers an address: paths without holes from a table, the others in turn."""

import re
from collections.abc import Mapping
from typing import Generic, TypeVar

Found = TypeVar("Found")

_HOLE = re.compile(r"\{(\w+):((?:[^{}]|\{[^{}]*\})+)\}")
_NOTHING: Mapping[str, str] = {}


def template(path: str) -> str:
    """The path with its holes' names only, as metrics and logs call it."""
    return _HOLE.sub(r"{\1}", path)


class Router(Generic[Found]):
    """Finds what was added by method and path. A hole is `{name:pattern}`."""

    def __init__(self) -> None:
        self._plain: dict[str, dict[str, Found]] = {}
        self._holed: dict[re.Pattern[str], dict[str, Found]] = {}

    def add(self, method: str, path: str, found: Found) -> None:
        """Adds one method of one path."""
        if "{" in path:
            pattern = re.compile(_HOLE.sub(r"(?P<\1>\2)", path))
            self._holed.setdefault(pattern, {})[method] = found
        else:
            self._plain.setdefault(path, {})[method] = found

    def methods(self, path: str) -> tuple[Mapping[str, Found], Mapping[str, str]]:
        """What is there by method, and what stands in the path's holes; nothing: no such path."""
        plain = self._plain.get(path)
        if plain is not None:
            return plain, _NOTHING
        for pattern, methods in self._holed.items():
            match = pattern.fullmatch(path)
            if match is not None:
                return methods, match.groupdict()
        return {}, _NOTHING
