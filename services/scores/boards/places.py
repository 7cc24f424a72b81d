"""The boards in Redis, the writing side: players put where they stand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from chassis import clock
from chassis.redis import Argument, Redis, Script
from services.scores.boards import keys
from services.scores.boards.changes import Written
from services.scores.boards.registry import Registry
from services.scores.boards.rules import ALL_TIME, Known, Period, Reset, Ties, moment
from services.scores.boards.store import BoardStore, Standing


class Ranks(NamedTuple):
    """Ranks on all_time before and after a change; None: not on the board, or not known."""

    old: int | None = None
    new: int | None = None


UNRANKED = Ranks()


class Places:
    """Every method raises RedisError.

    Redis holds absolute state, so that putting a player somewhere twice, or late, changes nothing.
    """

    def __init__(self, redis: Redis, registry: Registry, store: BoardStore) -> None:
        self._registry = registry
        self._store = store
        self._apply = Script.read(redis, __package__, "apply.lua")

    async def apply(self, rows: Sequence[Written]) -> list[Ranks]:
        """Moves the players of `rows`, awards in ledger order, on every board at once.

        Returns the ranks on all_time around each award. One script call per board and period, in
        one round trip. Raises DbUnavailable when there are boards beside the built-in ones, whose
        standings are read from Postgres, or boards that are not known here yet.
        """
        if max(row.boards for row in rows) > len(self._registry.all()):
            await self._registry.refresh()  # one was made a moment ago, by another replica
        # Built-in boards order and rank alike.
        moved = [(row, _move(row, descending=True)) for row in rows]
        # Only all_time has a rank for each award, so elsewhere a player's last award will do.
        last = {one[0].user_id: one for one in moved}
        calls: list[_Call] = []
        for known in self._registry.all():
            board = known.board
            if board.name == ALL_TIME:
                call = _call(known.periods[0], _awarded(board.every, moved), ranked=True)
                calls.insert(0, call)
            elif board.built_in:
                for period, part in _by_period(known, last.values()):
                    calls.append(_call(period, _awarded(board.every, part)))
        if self._registry.added():
            standings = await self._store.of(list(last))
            calls += [
                _call(period, _placed(period, group))
                for period, group in await self._grouped(standings)
                if not period.board.built_in
            ]
        return _ranks((await self._apply.many(calls))[0], len(rows))

    async def place(
        self, standings: Sequence[Standing], *, force: bool = False
    ) -> dict[str, Ranks]:
        """Puts players where they stand, on every board, if what is known there is older.

        `force`: also if it is of the same version. Returns the ranks on all_time before and after,
        by user id. At most a thousand players at once: nothing else runs in Redis meanwhile.
        """
        groups = await self._grouped(standings)
        calls = [
            _call(period, _placed(period, group), ranked=period.board.name == ALL_TIME, force=force)
            for period, group in groups
        ]
        answers = await self._apply.many(calls)
        ranks: dict[str, Ranks] = {}
        for (period, group), flat in zip(groups, answers, strict=True):
            if period.board.name == ALL_TIME:
                users = [standing.user_id for standing in group]
                ranks = dict(zip(users, _ranks(flat, len(users)), strict=True))
        return ranks

    async def _grouped(self, standings: Iterable[Standing]) -> list[tuple[Period, list[Standing]]]:
        """The standings by period, without the periods that were closed meanwhile."""
        groups: dict[tuple[str, int], list[Standing]] = {}
        for standing in standings:
            groups.setdefault((standing.board, standing.period), []).append(standing)
        found = {key: self._registry.find(*key) for key in groups}
        if None in found.values():
            # Made a moment ago, by another replica.
            await self._registry.refresh()
            found = {key: self._registry.find(*key) for key in groups}
        return [
            (period, groups[key]) for key, period in found.items() if period and not period.closed
        ]


_Call = tuple[Sequence[str], list[Argument]]
_Move = tuple[bytes, bytes]  # player, and what `members` has of it
_Moved = tuple[Written, _Move]

_TOTALS: Mapping[Reset, Callable[[Written], int]] = {
    Reset.NONE: attrgetter("new_score"),
    Reset.DAY: attrgetter("day_total"),
    Reset.WEEK: attrgetter("week_total"),
    Reset.MONTH: attrgetter("month_total"),
}


def _call(
    period: Period, arguments: Iterable[Argument], *, ranked: bool = False, force: bool = False
) -> _Call:
    return period.keys, [
        clock.offset_ms(),
        period.expires_ms,
        "dense" if period.board.ties is Ties.DENSE else "",
        "ranked" if ranked else "",
        "force" if force else "",
        keys.INVALIDATE,
        period.tag,
        *arguments,
    ]


def _move(to: Written | Standing, *, descending: bool) -> _Move:
    seq = None if to.hidden else to.seq
    return keys.packed(to.user_id), keys.member(to.version, seq, to.at_ms, descending=descending)


def _awarded(every: Reset, moved: Iterable[_Moved]) -> list[Argument]:
    total = _TOTALS[every]
    arguments: list[Argument] = []
    for row, move in moved:
        arguments += move
        arguments.append(total(row))
    return arguments


def _placed(period: Period, standings: Iterable[Standing]) -> Iterable[Argument]:
    for standing in standings:
        yield from _move(standing, descending=period.board.descending)
        yield standing.score


def _by_period(known: Known, moved: Iterable[_Moved]) -> list[tuple[Period, list[_Moved]]]:
    # The awards of one transaction are of one moment, so mostly there is one.
    moments: dict[int, list[_Moved]] = {}
    for one in moved:
        moments.setdefault(one[0].at_ms, []).append(one)
    return [
        (known.at(at_ms) or known.board.period(moment(at_ms)), part)
        for at_ms, part in moments.items()
    ]


def _ranks(flat: Sequence[int], count: int) -> list[Ranks]:
    if not flat:
        return [UNRANKED] * count
    return [Ranks(_rank(old), _rank(new)) for old, new in zip(flat[::2], flat[1::2], strict=True)]


def _rank(position: int) -> int | None:
    return None if position < 0 else position + 1
