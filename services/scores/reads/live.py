"""Reads of open periods from Redis, from the sorted sets or from the kept first entries."""

import struct
from collections.abc import Iterable, Sequence

from chassis.redis import Argument, Redis, Script
from services.scores.boards import keys
from services.scores.boards.names import Names
from services.scores.boards.ranking import (
    After,
    Entry,
    Found,
    NotRanked,
    Page,
    Place,
    WouldBe,
    points_to_next,
    ranks,
)
from services.scores.boards.rules import Board, Period

TOP_MAX = 100
KEPT_MS = 5000  # how long the first entries are kept in Redis, unless they change


class LiveReads:
    """Reads of open periods. Every method raises RedisError, and returns None for a board that is
    not complete in Redis."""

    def __init__(self, redis: Redis, names: Names) -> None:
        self._redis = redis
        self._names = names
        self._top, self._page, self._around, self._ranks, self._would_be = (
            Script.read(redis, __package__, "order.lua", f"{name}.lua")
            for name in ("top", "page", "around", "ranks", "would_be")
        )

    @property
    def behind(self) -> bool:
        """Whether Redis refuses writes, so that its boards lack changes."""
        return self._redis.behind

    async def top(
        self, period: Period, limit: int, *, fresh: bool, version_min: int = 0
    ) -> Page | None:
        """The first entries; not `fresh`: possibly as they were kept, in which case they are as
        many as there can be.

        The board gets `version_min` where it has an older version: the caller knows that it is
        not older.
        """
        arguments = [limit if fresh else TOP_MAX, 0 if fresh else KEPT_MS, version_min]
        answer = await self._top(*_call(period, *arguments))
        return None if answer is None else await self._paged(period, answer)

    async def page(self, period: Period, limit: int, after: After) -> Page | None:
        """The entries strictly behind `after`."""
        place = keys.place(after.seq, descending=period.board.descending)
        entry = place + keys.packed(after.user_id)
        answer = await self._page(*_call(period, limit, after.score, entry))
        return None if answer is None else await self._paged(period, answer)

    async def around(
        self, queries: Sequence[tuple[Period, str, int]]
    ) -> list[Place | NotRanked | None]:
        """The places of players (period, user id, radius)."""
        answers = await self._around.many(
            [_call(period, keys.packed(user), radius) for period, user, radius in queries]
        )
        rows = [_rows(answer, _AROUND.size) if answer else [] for answer in answers]
        names = await self._names.of([user for part in rows for _, user, _, _ in part])
        found: list[Place | NotRanked | None] = []
        for answer, part, (period, _, _) in zip(answers, rows, queries, strict=True):
            if answer is None:
                found.append(None)
            else:
                found.append(_place(period, answer, part, names) if answer else NotRanked())
        return found

    async def ranks(self, period: Period, users: Sequence[str]) -> Found | None:
        """The rows of players, those on the board."""
        answer = await self._ranks(*_call(period, *map(keys.packed, users)))
        if answer is None:
            return None
        (version,) = struct.unpack_from(">d", answer)
        found = list(struct.iter_unpack(">ddQ16sQd", answer[8:]))
        rows = [row[2:] for row in found]
        names = await self._names.of([user for _, user, _, _ in rows])
        places = ((int(position) + 1, int(rank)) for position, rank, *_ in found)
        entries = _entries(period.board, places, rows, names)
        return Found(entries=entries, board_version=_version(period, version))

    async def would_be(self, queries: Sequence[tuple[Period, int]]) -> list[WouldBe | None]:
        """The ranks that scores (period, score) would have."""
        answers = await self._would_be.many([_call(period, score) for period, score in queries])
        return [
            None if answer is None else _hypothetical(period, answer)
            for (period, _), answer in zip(queries, answers, strict=True)
        ]

    async def _paged(self, period: Period, answer: bytes) -> Page:
        version, at_ms, total, first, rank = _PAGE.unpack_from(answer)
        rows = _rows(answer, _PAGE.size)
        names = await self._names.of([user for _, user, _, _ in rows])
        entries = _ranked(period.board, rows, names, first=int(first), rank=int(rank))
        return Page(
            version=_version(period, version),
            updated_at_ms=int(at_ms) or None,
            total=int(total),
            entries=entries,
            more=int(first) + len(entries) < int(total),
        )


_Row = tuple[int, bytes, int, float]  # place, player, when it was reached, score

_PAGE = struct.Struct(">5d")
_AROUND = struct.Struct(">8dQ")
_ROW = struct.Struct(">Q16sQd")


def _call(period: Period, *arguments: Argument) -> tuple[Sequence[str], list[Argument]]:
    board = period.board
    return period.keys, [board.order.value, board.ties.value, *arguments]


def _rows(answer: bytes, skip: int) -> list[_Row]:
    return list(_ROW.iter_unpack(memoryview(answer)[skip:]))


def _version(period: Period, version: float) -> int:
    # A board without a change is as old as its period.
    return max(int(version), period.start_ms)


def _place(period: Period, answer: bytes, rows: Sequence[_Row], names: dict[bytes, str]) -> Place:
    board = period.board
    version, total, position, behind, has_next, ahead, first, rank, own = _AROUND.unpack_from(
        answer
    )
    neighbours = _ranked(board, rows, names, first=int(first), rank=int(rank))
    mine = neighbours[int(position - first)]
    return Place(
        rank=mine.rank,
        score=mine.score,
        total=int(total),
        behind=int(behind),
        points_to_next=points_to_next(board, mine.score, int(ahead)) if has_next else None,
        neighbours=neighbours,
        version=own,
        board_version=_version(period, version),
    )


def _hypothetical(period: Period, answer: bytes) -> WouldBe:
    version, total, rank = struct.unpack(">3d", answer)
    return WouldBe(rank=int(rank), total=int(total), board_version=_version(period, version))


def _ranked(
    board: Board, rows: Sequence[_Row], names: dict[bytes, str], *, first: int, rank: int
) -> list[Entry]:
    numbers = ranks(board.ties, [int(row[3]) for row in rows], first=first, rank=rank)
    return _entries(board, enumerate(numbers, first + 1), rows, names)


def _entries(
    board: Board,
    places: Iterable[tuple[int, int]],
    rows: Iterable[_Row],
    names: dict[bytes, str],
) -> list[Entry]:
    """`places` are position and rank of each row."""
    # As `keys.seq` has it, without a call for each row.
    last = keys.SEQ_MAX if board.descending else 0
    return [
        Entry(
            position=position,
            rank=rank,
            user_id=keys.unpacked(user),
            username=names.get(user, ""),
            score=int(score),
            reached_at_ms=at_ms,
            seq=abs(last - place),
        )
        for (position, rank), (place, user, at_ms, score) in zip(places, rows, strict=True)
    ]
