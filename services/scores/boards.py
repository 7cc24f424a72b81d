"""The boards: their rules, and the sorted sets in Redis that hold their order.

Boards hold players' ids; names stand in one hash. Everything of a board and period
shares a hash tag, so that one script can touch it on a cluster too.
"""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from chassis import clock
from chassis.redis import Argument, Redis, Script
from services.scores.store.ledger import Row
from services.scores.store.standings import Standing

WINDOW = 10  # entries that a live channel shows, unless a board says otherwise
KEPT = timedelta(days=8)  # how long a period stays in Redis after its end
SEQ_MAX = 2**63 - 1
NAMES = "leaderboard:{names}"


class Reset(Enum):
    """How often a board begins anew, at midnight UTC (weeks on Monday)."""

    NONE = "none"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class Period:
    """One run of a board: `all`, or named by its start, as `20261102T000000Z`."""

    id: str
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """A ranking rule over the ledger."""

    name: str
    title: str
    reset: Reset
    window: int = WINDOW

    def period(self, at: datetime) -> Period:
        """The period that `at` (UTC) belongs to."""
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        match self.reset:
            case Reset.NONE:
                return Period("all")
            case Reset.DAY:
                start, end = day, day + timedelta(days=1)
            case Reset.WEEK:
                start = day - timedelta(days=day.weekday())
                end = start + timedelta(days=7)
            case Reset.MONTH:
                start = day.replace(day=1)
                end = (start + timedelta(days=32)).replace(day=1)
        return Period(start.strftime("%Y%m%dT%H%M%SZ"), start, end)

    def total(self, row: Row) -> int:
        """The player's total on this board right after the award `row`."""
        match self.reset:
            case Reset.NONE:
                return row.new_score
            case Reset.DAY:
                return row.day_total
            case Reset.WEEK:
                return row.week_total
            case Reset.MONTH:
                return row.month_total


ALL_TIME = Board(name="all_time", title="All time", reset=Reset.NONE)
BOARDS = {
    board.name: board
    for board in (
        ALL_TIME,
        Board(name="daily", title="Today", reset=Reset.DAY),
        Board(name="weekly", title="This week", reset=Reset.WEEK),
        Board(name="monthly", title="This month", reset=Reset.MONTH),
    )
}


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks before and after an award; None: not on the board."""

    old: int | None
    new: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a board."""

    rank: int
    user_id: str
    username: str
    score: int
    reached_at_ms: int


@dataclass(frozen=True)
class Top:
    """The first entries of a board's present period."""

    period: Period
    version: int
    updated_at_ms: int
    total: int
    entries: list[Entry]


@dataclass(frozen=True)
class Place:
    """A player's place, and the rows around it with the player's own."""

    period: Period
    rank: int
    score: int
    total: int
    version: int
    points_to_next: int | None
    neighbours: list[Entry] = field(default_factory=list)


NamesOf = Callable[[Sequence[str]], Awaitable[dict[str, str]]]


class Boards:
    """The boards in Redis. Every method raises RedisError when Redis is away.

    `names_of` answers the names that Redis does not have, by user id.
    """

    def __init__(self, redis: Redis, names_of: NamesOf) -> None:
        self._redis = redis
        self._names_of = names_of
        self._apply = Script.read(redis, __package__, "apply.lua")
        self._top = Script.read(redis, __package__, "top.lua")
        self._around = Script.read(redis, __package__, "around.lua")
        self._ranks = Script.read(redis, __package__, "ranks.lua")

    async def apply(self, rows: Sequence[Row]) -> list[Ranks]:
        """Moves the players of `rows`, awards in ledger order, on every board at once.

        Answers the ranks on all_time around each award. One script call per board and
        period, in one round trip; applying an award again, or late, changes nothing.
        """
        # Only all_time tells a rank for each award, so elsewhere a player's last award will do.
        last = {row.user_id: row for row in rows}.values()
        calls = [_application(ALL_TIME, ALL_TIME.period(clock.now()), rows, ranked=True)]
        for board in BOARDS.values():
            if board is not ALL_TIME:
                for period, part in _by_period(board, last):
                    calls.append(_application(board, period, part, ranked=False))
        flat = (await self._apply.many(calls))[0]
        return [
            Ranks(_rank(old), _rank(new)) for old, new in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def place(self, standings: Sequence[Standing]) -> dict[str, Ranks]:
        """Puts players where they stand, on every board, if what is known there is older.

        Answers the ranks on all_time before and after, by user id.
        """
        groups: dict[tuple[str, int], list[Standing]] = {}
        for standing in standings:
            if standing.board in BOARDS:
                groups.setdefault((standing.board, standing.period), []).append(standing)
        calls = []
        for (name, period_ms), group in groups.items():
            board, at = BOARDS[name], datetime.fromtimestamp(period_ms / 1000, UTC)
            calls.append(_placing(board, board.period(at), group, ranked=board is ALL_TIME))
        answers = await self._apply.many(calls)
        ranks: dict[str, Ranks] = {}
        for group, flat in zip(groups.values(), answers, strict=True):
            for standing, old, new in zip(group, flat[::2], flat[1::2], strict=False):
                ranks[standing.user_id] = Ranks(_rank(old), _rank(new))
        return ranks

    async def name(self, names: dict[str, str]) -> None:
        """Keeps the players' names, by id."""
        if names:
            await self._redis.hset(NAMES, mapping={_packed(u): n for u, n in names.items()})

    async def top(self, asked: Sequence[tuple[Board, int]]) -> list[Top]:
        """The first entries, `limit` of each board asked for."""
        now = clock.now()
        periods = [board.period(now) for board, _ in asked]
        answers = await self._top.many(
            [
                (_keys(board, period), [limit])
                for (board, limit), period in zip(asked, periods, strict=True)
            ]
        )
        names = await self._names(user for answer in answers for user in answer[3::3])
        return [
            Top(
                period=period,
                version=int(answer[0]),
                updated_at_ms=int(answer[1]),
                total=int(answer[2]),
                entries=_entries(answer[3:], names, first=1),
            )
            for answer, period in zip(answers, periods, strict=True)
        ]

    async def around(self, asked: Sequence[tuple[Board, str, int]]) -> list[Place | None]:
        """The places of players (board, user id, radius); None: not on the board."""
        now = clock.now()
        periods = [board.period(now) for board, _, _ in asked]
        answers = await self._around.many(
            [
                (_keys(board, period)[:2], [_packed(user), radius])
                for (board, user, radius), period in zip(asked, periods, strict=True)
            ]
        )
        names = await self._names(user for answer in answers if answer for user in answer[5::3])
        return [
            _place(answer, user, period, names) if answer else None
            for answer, (_, user, _), period in zip(answers, asked, periods, strict=True)
        ]

    async def ranks(self, board: Board, users: Sequence[str]) -> list[Entry]:
        """The places of `users` who are on the board, in their order."""
        keys = _keys(board, board.period(clock.now()))[:2]
        flat = await self._ranks(keys, [_packed(user) for user in users])
        names = await self._names(flat[::4])
        return [
            Entry(
                int(flat[i + 1]) + 1,
                _unpacked(flat[i]),
                names.get(flat[i], ""),
                int(flat[i + 2]),
                int.from_bytes(flat[i + 3]),
            )
            for i in range(0, len(flat), 4)
        ]

    async def _names(self, users: Iterable[bytes]) -> dict[bytes, str]:
        wanted = list(dict.fromkeys(users))
        if not wanted:
            return {}
        found = await self._redis.hmget(NAMES, wanted)
        names = {
            user: name.decode()
            for user, name in zip(wanted, found, strict=True)
            if isinstance(name, bytes)
        }
        if len(names) < len(wanted):
            lost = await self._names_of([_unpacked(u) for u in wanted if u not in names])
            await self.name(lost)
            names |= {_packed(user): name for user, name in lost.items()}
        return names


def _keys(board: Board, period: Period) -> list[str]:
    tag = board.name if period.start is None else f"{board.name}:{period.id}"
    key = f"leaderboard:{{{tag}}}"
    return [key, f"{key}:members", f"{key}:meta"]


def _application(
    board: Board, period: Period, rows: Iterable[Row], *, ranked: bool
) -> tuple[list[str], list[Argument]]:
    expires = 0
    if period.end is not None:
        # Redis counts by the machine's clock, which ours may be ahead of.
        expires = int((period.end + KEPT).timestamp() * 1000) - clock.offset_ms()
    arguments: list[Argument] = [expires, int(ranked), clock.now_ms()]
    for row in rows:
        arguments += (
            _packed(row.user_id),
            row.version.to_bytes(8),
            b"" if row.hidden else (SEQ_MAX - row.seq).to_bytes(8),
            row.at_ms.to_bytes(8),
            board.total(row),
        )
    return _keys(board, period), arguments


def _placing(
    board: Board, period: Period, standings: Iterable[Standing], *, ranked: bool
) -> tuple[list[str], list[Argument]]:
    keys, arguments = _application(board, period, (), ranked=ranked)
    for standing in standings:
        away = standing.hidden or standing.seq is None
        arguments += (
            _packed(standing.user_id),
            standing.version.to_bytes(8),
            b"" if away else (SEQ_MAX - (standing.seq or 0)).to_bytes(8),
            standing.at_ms.to_bytes(8),
            standing.score,
        )
    return keys, arguments


def _by_period(board: Board, rows: Iterable[Row]) -> list[tuple[Period, list[Row]]]:
    parts: dict[str, tuple[Period, list[Row]]] = {}
    for row in rows:
        period = board.period(datetime.fromtimestamp(row.at_ms / 1000, UTC))
        parts.setdefault(period.id, (period, []))[1].append(row)
    return list(parts.values())


def _place(answer: list[Any], user: str, period: Period, names: dict[bytes, str]) -> Place:
    total, rank, version, first, ahead = answer[:5]
    neighbours = _entries(answer[5:], names, first=int(first) + 1)
    score = next(entry.score for entry in neighbours if entry.user_id == user)
    return Place(
        period=period,
        rank=int(rank) + 1,
        score=score,
        total=int(total),
        version=int.from_bytes(version),
        # One point more than the player ahead has: an equal score reached later stays behind.
        points_to_next=int(ahead) - score + 1 if ahead else None,
        neighbours=neighbours,
    )


def _entries(flat: list[Any], names: dict[bytes, str], *, first: int) -> list[Entry]:
    return [
        Entry(
            first + i // 3,
            _unpacked(flat[i]),
            names.get(flat[i], ""),
            int(flat[i + 1]),
            int.from_bytes(flat[i + 2]),
        )
        for i in range(0, len(flat), 3)
    ]


def _rank(position: int) -> int | None:
    return None if position < 0 else position + 1


def _packed(user_id: str) -> bytes:
    return bytes.fromhex(user_id.replace("-", ""))


def _unpacked(user: bytes) -> str:
    return str(uuid.UUID(bytes=user))
