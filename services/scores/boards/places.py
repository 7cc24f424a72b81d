"""The boards in Redis: who stands where, put there, and the mark that a board is complete."""

import secrets
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

from chassis import clock
from chassis.redis import Argument, Redis, Script
from services.scores.boards import keyspace
from services.scores.boards.changes import Row
from services.scores.boards.names import Name, Names
from services.scores.boards.registry import Known, Registry
from services.scores.boards.rules import ALL_TIME, Board, Period, Reset, Ties, moment
from services.scores.boards.store import Players, Standing, Standings

NamesOf = Callable[[Sequence[str]], Awaitable[dict[str, Name]]]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks on all_time before and after a change; None: not on the board, or not known."""

    old: int | None
    new: int | None


@dataclass(frozen=True, slots=True)
class State:
    """What Redis has of a player on one board and period.

    `seq` None: not on the board. `score` None with a `seq`: an entry has been lost.
    """

    version: int
    score: int | None
    seq: int | None
    at_ms: int


class Boards:
    """The writing side. Every method raises RedisError when Redis is away.

    Redis holds absolute state, so that putting a player somewhere twice, or late, changes nothing.
    `names_of` answers the names that Redis does not have, by user id.
    """

    def __init__(
        self, redis: Redis, registry: Registry, names_of: NamesOf, standings: Standings
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._standings = standings
        self._names = Names(redis, names_of)
        (
            self._apply,
            self._begin,
            self._fill,
            self._finish,
            self._prepare,
            self._states,
            self._remove,
            self._drop,
        ) = (
            Script.read(redis, __package__, f"{name}.lua")
            for name in ("apply", "begin", "fill", "finish", "prepare", "states", "remove", "drop")
        )

    async def apply(self, rows: Sequence[Row]) -> list[Ranks]:
        """Moves the players of `rows`, awards in ledger order, on every board at once.

        Answers the ranks on all_time around each award. One script call per board and period, in
        one round trip. Raises DbUnavailable when boards beside the built-in ones are to be asked
        for in Postgres, and it is away.
        """
        moves = [_move(row) for row in rows]
        # Only all_time tells a rank for each award, so elsewhere a player's last award will do.
        last = {row.user_id: (row, move) for row, move in zip(rows, moves, strict=True)}
        calls: list[_Call] = []
        for known in self._registry.all():
            board = known.board
            if board.name == ALL_TIME:
                awarded = _awarded(board, zip(rows, moves, strict=True))
                calls.insert(0, _call(board, known.periods[0], awarded, ranked=True))
            elif board.built_in:
                for period, part in _by_period(known, last.values()):
                    calls.append(_call(board, period, _awarded(board, part)))
        if self._registry.added():
            found = await self._standings.of(list(last))
            calls += [
                _call(board, period, _placed(board, group))
                for board, period, group in await self._grouped(found)
                if not board.built_in
            ]
        return _ranks((await self._apply.many(calls))[0], len(rows))

    async def place(
        self, standings: Sequence[Standing], *, force: bool = False
    ) -> dict[str, Ranks]:
        """Puts players where they stand, on every board, if what is known there is older.

        `force`: also if it is of the same version. Answers the ranks on all_time before and after,
        by user id. A thousand players at once are enough: nothing else runs meanwhile.
        """
        groups = await self._grouped(standings)
        calls = [
            _call(board, period, _placed(board, group), ranked=board.name == ALL_TIME, force=force)
            for board, period, group in groups
        ]
        answers = await self._apply.many(calls)
        ranks: dict[str, Ranks] = {}
        for (board, _, group), flat in zip(groups, answers, strict=True):
            if board.name == ALL_TIME:
                users = [standing.user_id for standing in group]
                ranks = dict(zip(users, _ranks(flat, len(users)), strict=True))
        return ranks

    async def name(self, names: Mapping[str, Name]) -> None:
        """Keeps the players' names, by id, that are newer than the known ones."""
        await self._names.keep(names)

    async def ready(self, board: Board, period: Period) -> bool:
        """Whether the board is complete in Redis, as far as it is told of changes."""
        return bool(await self._redis.exists(keyspace.keys(board, period)[3]))

    async def begin_rebuild(self, board: Board, period: Period, *, wipe: bool) -> str:
        """The board is not complete until `set_ready`; `wipe`: it begins empty.

        Answers the token that `set_ready` takes. Changes are taken meanwhile.
        """
        token = secrets.token_hex(8)
        await self._begin(
            keyspace.keys(board, period),
            [
                clock.offset_ms(),
                _expires(period),
                "wipe" if wipe else "",
                keyspace.INVALIDATE,
                keyspace.tag(board, period),
                token,
            ],
        )
        return token

    async def fill(self, board: Board, period: Period, players: Players) -> list[str]:
        """Puts at most a thousand players onto a board that `begin_rebuild` emptied.

        Answers those who came there meanwhile, and were left as they are.
        """
        dense = "dense" if board.ties is Ties.DENSE else ""
        arguments = [_expires(period), dense, *_filling(board, players)]
        there = await self._fill(keyspace.keys(board, period), arguments)
        return [keyspace.unpacked(user) for user in there]

    async def set_ready(self, board: Board, period: Period, token: str) -> bool:
        """The board is complete; False when it was lost, or another rebuild began, since."""
        arguments: list[Argument] = [clock.offset_ms(), _expires(period), token]
        return bool(await self._finish(keyspace.keys(board, period), arguments))

    async def prepare(self, board: Board, period: Period) -> bool:
        """A period that has not begun has nobody on its board: it is complete.

        False when it has begun by Redis' clock, and is not ready.
        """
        arguments = [clock.offset_ms(), _expires(period), period.start_ms]
        return bool(await self._prepare(keyspace.keys(board, period), arguments))

    async def states(
        self, board: Board, period: Period, users: Sequence[str]
    ) -> list[State | None]:
        """What Redis has of those players; None: nothing."""
        arguments: list[Argument] = [keyspace.packed(user) for user in users]
        answers = await self._states(keyspace.keys(board, period), arguments)
        return [_state(board, answer) for answer in answers]

    async def members(
        self, board: Board, period: Period, cursor: int, count: int
    ) -> tuple[int, list[str]]:
        """Some of the players known there, about `count`, and where to go on; 0: that was all."""
        next_cursor, found = await self._redis.hscan(
            keyspace.keys(board, period)[1], cursor=cursor, count=count
        )
        return int(next_cursor), [
            keyspace.unpacked(user) for user in cast(dict[bytes, bytes], found)
        ]

    async def forget(self, board: Board, period: Period, users: Sequence[str]) -> None:
        """Takes players whom Postgres does not know from the board."""
        arguments: list[Argument] = [
            clock.offset_ms(),
            keyspace.INVALIDATE,
            keyspace.tag(board, period),
        ]
        await self._remove(
            keyspace.keys(board, period), arguments + [keyspace.packed(user) for user in users]
        )

    async def first(self, board: Board, period: Period, limit: int) -> list[bytes]:
        """The first entries, as they are kept."""
        key = keyspace.keys(board, period)[0]
        read = self._redis.zrevrange if board.descending else self._redis.zrange
        found: Any = await read(key, 0, limit - 1)
        return list(found)

    async def entries(
        self, board: Board, period: Period, cursor: int, count: int
    ) -> tuple[int, list[bytes]]:
        """Some entries, about `count`, as they are kept, and where to go on; 0: that was all."""
        found: Any = await self._redis.zscan(
            keyspace.keys(board, period)[0], cursor=cursor, count=count
        )
        return int(found[0]), [entry for entry, _ in found[1]]

    async def there(self, board: Board, period: Period, entries: Sequence[bytes]) -> list[bytes]:
        """Those of the entries that are on the board."""
        if not entries:
            return []
        asked: Any = list(entries)
        found = await self._redis.zmscore(keyspace.keys(board, period)[0], asked)
        return [e for e, score in zip(entries, found, strict=True) if score is not None]

    def player(self, entry: bytes) -> str:
        """Whose entry it is; of one that is malformed, nobody's."""
        return keyspace.unpacked(entry[-16:].rjust(16, b"\0"))

    def entry(self, board: Board, standing: Standing | None) -> bytes | None:
        """The entry of a player who stands there; None: not on the board."""
        if standing is None or standing.seq is None or standing.hidden:
            return None
        return keyspace.place(board, standing.seq) + keyspace.packed(standing.user_id)

    async def drop(self, board: Board, period: Period, entries: Sequence[bytes]) -> None:
        """Takes entries away that are nobody's, whatever is known of their players."""
        arguments: list[Argument] = [
            clock.offset_ms(),
            keyspace.INVALIDATE,
            keyspace.tag(board, period),
            *entries,
        ]
        await self._drop(keyspace.keys(board, period), arguments)

    async def _grouped(
        self, standings: Iterable[Standing]
    ) -> list[tuple[Board, Period, list[Standing]]]:
        """The standings by board and period, without the periods that were closed meanwhile."""
        groups: dict[tuple[str, int], list[Standing]] = {}
        for standing in standings:
            groups.setdefault((standing.board, standing.period), []).append(standing)
        found = {key: self._registry.find(*key) for key in groups}
        if None in found.values():
            # Made a moment ago, by another replica.
            await self._registry.refresh()
            found = {key: self._registry.find(*key) for key in groups}
        return [
            (place[0].board, place[1], groups[key])
            for key, place in found.items()
            if place and not place[1].closed
        ]


_Call = tuple[list[str], list[Argument]]
_Move = tuple[bytes, bytes]  # player, and what is kept of it

_BUILT_IN = Board(name=ALL_TIME, title="")
_TOTALS: Mapping[Reset, Callable[[Row], int]] = {
    Reset.NONE: attrgetter("new_score"),
    Reset.DAY: attrgetter("day_total"),
    Reset.WEEK: attrgetter("week_total"),
    Reset.MONTH: attrgetter("month_total"),
}


def _call(
    board: Board,
    period: Period,
    arguments: Iterable[Argument],
    *,
    ranked: bool = False,
    force: bool = False,
) -> _Call:
    return keyspace.keys(board, period), [
        clock.offset_ms(),
        _expires(period),
        "dense" if board.ties is Ties.DENSE else "",
        "ranked" if ranked else "",
        "force" if force else "",
        keyspace.INVALIDATE,
        keyspace.tag(board, period),
        *arguments,
    ]


def _expires(period: Period) -> int:
    # Redis counts by the machine's clock, which ours may be ahead of.
    return period.end_ms + keyspace.KEPT_MS - clock.offset_ms() if period.end_ms else 0


def _move(row: Row) -> _Move:
    """What all built-in boards are told alike of an award: they order and rank alike."""
    seq = None if row.hidden else row.seq
    return keyspace.packed(row.user_id), _kept(_BUILT_IN, row.version, seq, row.at_ms)


def _kept(board: Board, version: int, seq: int | None, at_ms: int) -> bytes:
    """What is kept of a player: version, and for who is on the board place and time."""
    kept = version.to_bytes(8)
    return kept if seq is None else kept + keyspace.place(board, seq) + at_ms.to_bytes(8)


def _awarded(board: Board, moved: Iterable[tuple[Row, _Move]]) -> list[Argument]:
    total = _TOTALS[board.every]
    arguments: list[Argument] = []
    for row, move in moved:
        arguments += move
        arguments.append(total(row))
    return arguments


def _placed(board: Board, standings: Iterable[Standing]) -> Iterable[Argument]:
    for standing in standings:
        seq = None if standing.hidden else standing.seq
        yield keyspace.packed(standing.user_id)
        yield _kept(board, standing.version, seq, standing.at_ms)
        yield standing.score


def _filling(board: Board, players: Players) -> Iterable[Argument]:
    for user, version, score, seq, at_ms in zip(
        players.users, players.versions, players.scores, players.seqs, players.ats_ms, strict=True
    ):
        yield user.bytes
        yield _kept(board, version, seq, at_ms)
        yield score


def _by_period(
    known: Known, moved: Iterable[tuple[Row, _Move]]
) -> list[tuple[Period, list[tuple[Row, _Move]]]]:
    # The awards of one transaction are of one moment, so mostly there is one.
    moments: dict[int, list[tuple[Row, _Move]]] = {}
    for one in moved:
        moments.setdefault(one[0].at_ms, []).append(one)
    return [
        (known.at(at_ms) or known.board.period(moment(at_ms)), part)
        for at_ms, part in moments.items()
    ]


def _ranks(flat: Sequence[int], count: int) -> list[Ranks]:
    if not flat:
        return [Ranks(None, None)] * count
    return [Ranks(_rank(old), _rank(new)) for old, new in zip(flat[::2], flat[1::2], strict=True)]


def _rank(position: int) -> int | None:
    return None if position < 0 else position + 1


def _state(board: Board, answer: bytes | None) -> State | None:
    if answer is None:
        return None
    version = int.from_bytes(answer[:8])
    if len(answer) == 8:
        return State(version, None, None, 0)
    place, at_ms = struct.unpack_from(">QQ", answer, 8)
    score = int(struct.unpack_from(">d", answer, 24)[0]) if len(answer) == 32 else None
    return State(version, score, keyspace.seq(board, place), at_ms)
