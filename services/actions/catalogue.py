"""The action types: what one must be like, and the copy of them all that a process holds."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from chassis.errors import FieldError, Unavailable
from chassis.telemetry import log
from services.actions import formulas
from services.actions.failures import ValidationFailed

DURATION_MS_MAX = 24 * 3600 * 1000
FOLLOWED_MS = 1000  # by then every replica applies a change


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionType:
    """What may be played, what it is worth and how long it takes."""

    action_type: str
    title: str
    points: int  # no part of it where there is a formula
    min_duration_ms: int
    max_duration_ms: int
    token_ttl_s: int
    daily_cap: int | None = None
    max_open: int | None = None  # None: shares the common limit of open tokens
    authoritative: bool  # only game servers award it
    formula: str = ""  # that computes the points; empty: they are fixed
    points_min: int | None = None  # with a formula: the range of its result
    points_max: int | None = None
    times_since_ms: int = 0  # since when every replica holds players to these durations

    @property
    def worth(self) -> int:
        """What a play is worth; 0 where its proof decides."""
        return 0 if self.formula else self.points

    def computed(self, *, evidence: bytes, completion_ms: int) -> int:
        """What a play is worth by its proof, which a formula needs.

        Raises ValidationFailed and ScoreOutOfRange.
        """
        if not self.formula:
            return self.points
        span = formulas.Span(
            self.points_min or 0, self.points_max or 0, self.min_duration_ms, self.max_duration_ms
        )
        return formulas.FORMULAS[self.formula](span, evidence, completion_ms)

    def changed(self, new: "ActionType", names: Sequence[str], *, now_ms: int) -> "ActionType":
        """This type with the fields `names` of `new`. Raises ValidationFailed for names of
        none that may change; what comes of it is still to be validated."""
        if strange := sorted(set(names) - _CHANGING):
            raise ValidationFailed(
                errors=[FieldError(name, "UNKNOWN", "cannot be changed") for name in strange]
            )
        merged = replace(self, **{name: getattr(new, name) for name in names})
        durations = (merged.min_duration_ms, merged.max_duration_ms)
        if durations == (self.min_duration_ms, self.max_duration_ms):
            return merged
        return replace(merged, times_since_ms=now_ms + FOLLOWED_MS)

    def validate(self, *, points_max: int) -> None:
        """Raises ValidationFailed with every field that does not fit."""
        if errors := [FieldError(*wrong) for fits, *wrong in self._checks(points_max) if not fits]:
            raise ValidationFailed(errors=errors)

    def _checks(self, points_max: int) -> Iterator[tuple[bool, str, str, str]]:
        """Whether each field fits, its name, and the code and the sentence where it does not."""
        title, shortest_ms, longest_ms = self.title, self.min_duration_ms, self.max_duration_ms
        named, titled = is_name(self.action_type), 1 <= len(title) <= 80 and title.isprintable()
        yield named, "actionType", "PATTERN", "must match [A-Z][A-Z0-9_]{1,39}"
        yield titled, "title", "LENGTH", "must be 1 to 80 printable characters"
        least = 0 if self.formula else 1
        within = f"must be between {least} and {points_max}"
        yield least <= self.points <= points_max, "points", "RANGE", within
        yield from self._formula_checks(points_max)
        yield shortest_ms >= 0, "minDurationMs", "RANGE", "must not be negative"
        within = f"must be between minDurationMs and {DURATION_MS_MAX}"
        yield shortest_ms <= longest_ms <= DURATION_MS_MAX, "maxDurationMs", "RANGE", within
        lasting = self.token_ttl_s * 1000 > longest_ms and self.token_ttl_s >= 1
        yield lasting, "tokenTtlS", "RANGE", "must be longer than maxDurationMs"
        for number, name in ((self.daily_cap, "dailyCap"), (self.max_open, "maxOpen")):
            yield number is None or number >= 1, name, "RANGE", "must be at least 1"

    def _formula_checks(self, points_max: int) -> Iterator[tuple[bool, str, str, str]]:
        least, most = self.points_min, self.points_max
        if not self.formula:
            yield least is None, "pointsMin", "FORMULA", "goes with a formula only"
            yield most is None, "pointsMax", "FORMULA", "goes with a formula only"
            return
        known = f"must be one of {', '.join(formulas.FORMULAS)}"
        yield self.formula in formulas.FORMULAS, "formula", "UNKNOWN", known
        fits = least is not None and 1 <= least <= points_max
        yield fits, "pointsMin", "RANGE", f"must be between 1 and {points_max}"
        fits = most is not None and (least or 1) <= most <= points_max
        yield fits, "pointsMax", "RANGE", f"must be between pointsMin and {points_max}"


def is_name(text: str) -> bool:
    """Whether a type may be called so."""
    return bool(_NAME.fullmatch(text))


class Catalogue:
    """The process's copy of the types. It follows within a second, and at once when it lacks a
    type that is requested, so that a new type works on every replica."""

    def __init__(self, load: Callable[[int], Awaitable[tuple[int, list[ActionType]] | None]]):
        """`load` returns the version and all types of it, None while it is the one given."""
        self._load = load
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
        if any(name not in self._types and is_name(name) for name in names):
            await self.refresh()

    async def refresh(self) -> None:
        """Takes over what has changed. Raises Unavailable."""
        async with self._refreshing:
            if changed := await self._load(self._version):
                self._version, types = changed
                self._types = {known.action_type: known for known in types}

    async def follow(self, *, pause_s: float = 0.5) -> None:
        """Refreshes forever."""
        while True:
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(1.0):
                    await self.refresh()
            except (Unavailable, TimeoutError) as error:
                log.warning("catalogue_refresh_failed", error=repr(error))


_NAME = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
_CHANGING = {field.name for field in fields(ActionType)} - {"action_type", "times_since_ms"}
