"""What a board is: which awards count on it, how they add up, who is ahead, when it resets."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chassis import clock
from chassis.errors import FieldError, Unprocessable
from services.scores.boards.keys import KEPT_MS, BoardKeys, board_keys

TITLE_CHARACTERS_MAX = 80
ACTION_TYPES_MAX = 64
WINDOW_MIN, WINDOW_MAX = 10, 100
SCORE_MAX = 2**53 - 1
ALL_TIME = "all_time"
PERIOD_FORMAT = "%Y%m%dT%H%M%SZ"


class ValidationFailed(Unprocessable):
    """Some fields do not fit."""


def check_fields(*checks: tuple[object, str, str, str]) -> None:
    """Raises ValidationFailed with every field (whether it fits, name, code, detail) that does
    not fit."""
    if problems := _problems(*checks):
        raise ValidationFailed(errors=problems)


def _problems(*checks: tuple[object, str, str, str]) -> list[FieldError]:
    return [FieldError(*problem) for fits, *problem in checks if not fits]


class Operator(StrEnum):
    """How the awards of a player make a score: their sum, the best of them, the latest.

    An award that leaves the score as it is leaves the place among equals as well: of the latest
    awards that are equal in a row the first reached the score.
    """

    SUM = "sum"
    BEST = "best"
    LATEST = "latest"


class Order(StrEnum):
    """Which scores are ahead: the high ones (descending) or the low ones."""

    DESCENDING = "descending"
    ASCENDING = "ascending"


class Ties(StrEnum):
    """Ranks of equal scores: who reached it first is ahead (1 2 3 4), they share the place and
    leave the next ones out (1 2 2 4), or leave none out (1 2 2 3).

    In the list itself the first to reach a score stands first, also among equal ranks: that is an
    entry's position.
    """

    FIRST_TO_REACH = "first_to_reach"
    SHARED = "shared"
    DENSE = "dense"


class Reset(StrEnum):
    """How often a board resets; weeks on Monday."""

    NONE = "none"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A ranking rule over the ledger."""

    name: str
    title: str
    operator: Operator = Operator.SUM
    order: Order = Order.DESCENDING
    ties: Ties = Ties.FIRST_TO_REACH
    action_types: tuple[str, ...] = ()  # that count; none: all
    every: Reset = Reset.NONE
    reset_at: str = "00:00"  # in the zone
    zone: str = "UTC"
    window: int = WINDOW_MIN  # entries its live channel shows
    public: bool = True  # readable without an access token
    built_in: bool = False

    @property
    def descending(self) -> bool:
        """High scores are ahead."""
        return self.order is Order.DESCENDING

    def counts(self, action_type: str) -> bool:
        """Whether awards of this type count here."""
        return not self.action_types or action_type in self.action_types

    def period(self, at: datetime) -> "Period":
        """The period that `at` (UTC) belongs to, as the zone's clock has it.

        For making the rows of `scores.periods`, which alone say what a moment belongs to. A time
        of day that a change of the clock leaves out or repeats is read as `datetime` reads it with
        fold 0 (PEP 495), so that every period ends where the next begins.
        """
        if self.every is Reset.NONE:
            return Period(self, 0, None)
        hour, minute = map(int, self.reset_at.split(":"))
        zone, into_day = ZoneInfo(self.zone), timedelta(hours=hour, minutes=minute)
        first = _first_day(at.astimezone(zone).replace(tzinfo=None) - into_day, self.every)
        # An hour that the clock repeats can leave `at` outside what its wall time names.
        for shift in (0, -1, 1):
            days = (_shifted(first, self.every, times) for times in (shift, shift + 1))
            walls = ((day + into_day).replace(tzinfo=zone) for day in days)
            start, end = (int(wall.timestamp() * 1000) for wall in walls)
            if start <= at.timestamp() * 1000 < end:
                break
        return Period(self, start, end)

    def problems(self) -> list[FieldError]:
        """Every field that does not fit."""
        title_fits = 1 <= len(self.title) <= TITLE_CHARACTERS_MAX and self.title.isprintable()
        types = self.action_types
        types_fit = len(types) <= ACTION_TYPES_MAX
        time_fits = _TIME.fullmatch(self.reset_at)
        window_fits = WINDOW_MIN <= self.window <= WINDOW_MAX
        type_form = f"must match {_ACTION_TYPE.pattern}"
        return _problems(
            (_NAME.fullmatch(self.name), "board", "PATTERN", "must match [a-z][a-z0-9_-]{0,31}"),
            (title_fits, "title", "LENGTH", "must be 1 to 80 printable characters"),
            (types_fit, "actionTypes", "LENGTH", f"must be at most {ACTION_TYPES_MAX}"),
            *(
                (_ACTION_TYPE.fullmatch(name), f"actionTypes[{place}]", "PATTERN", type_form)
                for place, name in enumerate(types)
            ),
            (time_fits, "reset.at", "PATTERN", "must be a time of day as HH:MM"),
            (_is_zone(self.zone), "zone", "UNKNOWN", "must be an IANA time zone"),
            (window_fits, "window", "RANGE", f"must be between {WINDOW_MIN} and {WINDOW_MAX}"),
        )


@dataclass(frozen=True)
class Period:
    """One run of a board, from `start_ms` until before `end_ms` (Unix ms; None: forever)."""

    board: Board
    start_ms: int
    end_ms: int | None
    closed: bool = False  # its final table is frozen

    @cached_property
    def id(self) -> str:
        """As `period_id` has it."""
        return period_id(self.start_ms, self.end_ms)

    @cached_property
    def tag(self) -> str:
        """What its keys in Redis share; no two periods have the same."""
        return self.board.name if self.end_ms is None else f"{self.board.name}:{self.id}"

    @cached_property
    def keys(self) -> BoardKeys:
        """Its keys in Redis."""
        return board_keys(self.tag)

    @property
    def expires_ms(self) -> int:
        """When its keys in Redis expire, by the machine's clock; 0: never."""
        return self.end_ms + KEPT_MS - clock.offset_ms() if self.end_ms else 0

    def holds(self, at_ms: int) -> bool:
        """Whether the moment belongs to it."""
        return self.end_ms is None or self.start_ms <= at_ms < self.end_ms


@dataclass(frozen=True)
class Known:
    """A board and its periods, oldest first: those that are open, and the newest closed ones."""

    board: Board
    periods: tuple[Period, ...]
    listed: bool = True

    def at(self, at_ms: int) -> Period | None:
        """The period that the moment belongs to."""
        return next((p for p in reversed(self.periods) if p.holds(at_ms)), None)

    def starting(self, start_ms: int) -> Period | None:
        """The period that begins then."""
        return next((p for p in reversed(self.periods) if p.start_ms == start_ms), None)

    def open(self) -> list[Period]:
        """The periods that began and are not closed."""
        now_ms = clock.now_ms()
        return [p for p in self.periods if not p.closed and p.start_ms <= now_ms]


def period_id(start_ms: int, end_ms: int | None) -> str:
    """`all`, or the start in UTC, as `20261102T000000Z`."""
    return "all" if end_ms is None else moment(start_ms).strftime(PERIOD_FORMAT)


def start_of(period: str) -> int | None:
    """The start (Unix ms) of the period of that id; None: it is none, or `all`."""
    try:
        start = datetime.strptime(period, PERIOD_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(start.timestamp()) * 1000


def moment(at_ms: int) -> datetime:
    """That moment (Unix ms), in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ACTION_TYPE = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


def _first_day(local: datetime, every: Reset) -> datetime:
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if every is Reset.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if every is Reset.MONTH else day


def _shifted(day: datetime, every: Reset, times: int) -> datetime:
    if every is Reset.MONTH:
        months = day.year * 12 + day.month - 1 + times
        return day.replace(year=months // 12, month=months % 12 + 1)
    return day + times * timedelta(days=7 if every is Reset.WEEK else 1)


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
