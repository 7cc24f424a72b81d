"""The action types: what one must be like, and the copy of them all that a process holds."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import FieldError, Unavailable
from chassis.telemetry import log
from services.actions.failures import ValidationFailed

DURATION_MS_MAX = 24 * 3600 * 1000
TITLE_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionType:
    """What may be played, what it is worth and how long it takes."""

    action_type: str
    title: str
    points: int
    min_duration_ms: int
    max_duration_ms: int
    token_ttl_s: int
    daily_cap: int | None
    max_open: int | None  # None: shares the common limit of open tokens
    authoritative: bool  # only game servers award it

    def validate(self, *, points_max: int) -> None:
        """Raises ValidationFailed with every field that does not fit."""
        longest = f"must be between minDurationMs and {DURATION_MS_MAX}"
        checks = (
            (
                bool(_NAME.fullmatch(self.action_type)),
                FieldError("actionType", "PATTERN", "must match [A-Z][A-Z0-9_]{1,39}"),
            ),
            (
                1 <= len(self.title) <= TITLE_CHARACTERS_MAX and self.title.isprintable(),
                FieldError("title", "LENGTH", "must be 1 to 80 printable characters"),
            ),
            (
                1 <= self.points <= points_max,
                FieldError("points", "RANGE", f"must be between 1 and {points_max}"),
            ),
            (
                self.min_duration_ms >= 0,
                FieldError("minDurationMs", "RANGE", "must not be negative"),
            ),
            (
                self.min_duration_ms <= self.max_duration_ms <= DURATION_MS_MAX,
                FieldError("maxDurationMs", "RANGE", longest),
            ),
            (
                self.token_ttl_s * 1000 > self.max_duration_ms and self.token_ttl_s >= 1,
                FieldError("tokenTtlS", "RANGE", "must be longer than maxDurationMs"),
            ),
            (
                self.daily_cap is None or self.daily_cap >= 1,
                FieldError("dailyCap", "RANGE", "must be at least 1"),
            ),
            (
                self.max_open is None or self.max_open >= 1,
                FieldError("maxOpen", "RANGE", "must be at least 1"),
            ),
        )
        if problems := [problem for fits, problem in checks if not fits]:
            raise ValidationFailed(errors=problems)


class Types(Protocol):
    """Where the catalogue is kept."""

    async def catalogue_version(self) -> int:
        """Rises with every change. Raises Unavailable."""

    async def types(self) -> tuple[int, Sequence[ActionType]]:
        """The version and all types of it. Raises Unavailable."""


class Catalogue:
    """The process's copy of the types. It follows within a second, and at once when asked
    for a type that it does not know, so that a new type works on every replica."""

    def __init__(self, store: Types) -> None:
        self._store = store
        self._version = -1
        self._types: dict[str, ActionType] = {}
        self._refreshing = asyncio.Lock()

    def get(self, name: str) -> ActionType | None:
        """The type, as far as this process knows it."""
        return self._types.get(name)

    def types(self) -> list[ActionType]:
        """All types, by name."""
        return sorted(self._types.values(), key=lambda known: known.action_type)

    async def learn(self, names: Iterable[str]) -> None:
        """Looks for those of the names that are not known. Raises Unavailable."""
        if any(name not in self._types and _NAME.fullmatch(name) for name in names):
            await self.refresh()

    async def refresh(self) -> None:
        """Takes over what has changed. Raises Unavailable."""
        async with self._refreshing:
            if await self._store.catalogue_version() == self._version:
                return
            self._version, types = await self._store.types()
            self._types = {known.action_type: known for known in types}

    async def follow(self, *, pause_s: float = 1.0) -> None:
        """Refreshes for ever."""
        while True:
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(pause_s):
                    await self.refresh()
            except (Unavailable, TimeoutError) as error:
                log.warning("catalogue_refresh_failed", error=repr(error))


_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
