"""The boards in Redis as upkeep fills, reads and clears them."""

import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from chassis import clock
from chassis.redis import Argument, Redis, Script
from services.scores.boards import keys
from services.scores.boards.rules import Period, Ties
from services.scores.boards.store import Standing
from services.scores.upkeep.store import Players


@dataclass(frozen=True, slots=True)
class State:
    """What Redis has of a player on one board and period.

    `seq` None: not on the board. `score` None with a `seq`: an entry has been lost.
    """

    version: int
    score: int | None
    seq: int | None
    at_ms: int


PLAYERS_AT_ONCE = 1000  # nothing else runs in Redis while they are put onto one board


class RedisBoards:
    """Every method raises RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._fill, self._prepare, self._states = (
            Script.read(redis, __package__, f"{name}.lua") for name in ("fill", "prepare", "states")
        )
        self._begin, self._finish, self._remove, self._drop = (
            Script.read(redis, __package__, "change.lua", f"{name}.lua")
            for name in ("begin", "finish", "remove", "drop")
        )

    async def ready(self, period: Period) -> bool:
        """Whether the board is complete, apart from changes that are still to be published."""
        return bool(await self._redis.exists(period.keys.ready))

    async def begin(self, period: Period, *, wipe: bool) -> str:
        """The board is not complete until `finish`; `wipe`: it begins empty.

        Returns the token that `finish` takes. Changes are taken meanwhile.
        """
        token = secrets.token_hex(8)
        arguments = [*_changing(period), period.expires_ms, "wipe" if wipe else "", token]
        await self._begin(period.keys, arguments)
        return token

    async def fill(self, period: Period, players: Players) -> list[str]:
        """Puts players onto a board that `begin` emptied.

        Returns those who were put there meanwhile, and are left as they are.
        """
        dense = "dense" if period.board.ties is Ties.DENSE else ""
        given = list(_filling(period, players))
        step = 3 * PLAYERS_AT_ONCE
        parts = (given[i : i + step] for i in range(0, len(given), step))
        there = await self._fill.many(
            [(period.keys, [period.expires_ms, dense, *part]) for part in parts]
        )
        return [keys.unpacked(user) for users in there for user in users]

    async def finish(self, period: Period, token: str) -> bool:
        """The board is complete; False when it was lost, or another rebuild began, since."""
        arguments = [*_changing(period), period.expires_ms, token]
        return bool(await self._finish(period.keys, arguments))

    async def prepare(self, period: Period) -> bool:
        """A period that has not begun has no players: its board is complete.

        False when it has begun by Redis' clock, and is not ready.
        """
        arguments = [clock.offset_ms(), period.expires_ms, period.start_ms]
        return bool(await self._prepare(period.keys, arguments))

    async def states(self, period: Period, users: Sequence[str]) -> list[State | None]:
        """What Redis has of those players; None: nothing."""
        answers = await self._states(period.keys, [keys.packed(user) for user in users])
        return [_state(period, answer) for answer in answers]

    async def first(self, period: Period, limit: int) -> list[bytes]:
        """The first entries, as they are kept."""
        read = self._redis.zrevrange if period.board.descending else self._redis.zrange
        found: Any = await read(period.keys.entries, 0, limit - 1)
        return list(found)

    async def entries(self, period: Period, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Some entries, about `count`, as they are kept, and the next cursor; 0: that was all."""
        found: Any = await self._redis.zscan(period.keys.entries, cursor=cursor, count=count)
        return int(found[0]), [entry for entry, _ in found[1]]

    async def there(self, period: Period, entries: Sequence[bytes]) -> list[bytes]:
        """Those of the entries that are on the board."""
        if not entries:
            return []
        found = await self._redis.zmscore(period.keys.entries, cast(Any, list(entries)))
        return [e for e, score in zip(entries, found, strict=True) if score is not None]

    async def forget(self, period: Period, users: Sequence[str]) -> None:
        """Removes players who are not in Postgres from the board."""
        await self._remove(period.keys, [*_changing(period), *map(keys.packed, users)])

    async def drop(self, period: Period, entries: Sequence[bytes]) -> None:
        """Removes entries that belong to no player; `members` stays as it is."""
        await self._drop(period.keys, [*_changing(period), *entries])


def player(entry: bytes) -> str:
    """Whose entry it is; of one that is malformed, an id that no player has."""
    return keys.unpacked(entry[-16:].rjust(16, b"\0"))


def entry(period: Period, standing: Standing | None) -> bytes | None:
    """The entry of a player who stands there; None: not on the board."""
    if standing is None or standing.seq is None or standing.hidden:
        return None
    place = keys.place(standing.seq, descending=period.board.descending)
    return place + keys.packed(standing.user_id)


def _changing(period: Period) -> list[Argument]:
    """What a script needs that changes a board: the clock's offset, and what to publish where."""
    return [clock.offset_ms(), keys.INVALIDATE, period.tag]


def _filling(period: Period, players: Players) -> Iterable[Argument]:
    descending = period.board.descending
    for user, version, score, seq, at_ms in zip(
        players.users, players.versions, players.scores, players.seqs, players.ats_ms, strict=True
    ):
        yield user.bytes
        yield keys.member(version, seq, at_ms, descending=descending)
        yield score


def _state(period: Period, answer: bytes | None) -> State | None:
    if answer is None:
        return None
    version = int.from_bytes(answer[:8])
    if len(answer) == 8:
        return State(version=version, score=None, seq=None, at_ms=0)
    place, at_ms = struct.unpack_from(">QQ", answer, 8)
    score = int(struct.unpack_from(">d", answer, 24)[0]) if len(answer) == 32 else None
    seq = keys.seq(place, descending=period.board.descending)
    return State(version=version, score=score, seq=seq, at_ms=at_ms)
