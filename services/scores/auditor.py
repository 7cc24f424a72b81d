"""The auditor: holds boards against Postgres, and Postgres against the ledger, all the time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from chassis.telemetry import log
from services.scores.boards import Boards, State
from services.scores.registry import Registry
from services.scores.rules import Board, Period
from services.scores.store.standings import Standing, Standings

TOP = 100
SAMPLE_MIN, SAMPLE_MAX = 10, 100  # of players and of entries, a pass
PASSES = 40  # a second each, in which what is small is swept
COUNTED = 20  # players whose awards are counted anew in a pass
SWEPT = 1000  # at once, when an operator asks for everything
# What was awarded a moment ago may be in Postgres and not yet in Redis.
SECOND_LOOK_S = 0.3

repaired = Counter("scoreboard_drift_repaired_total", "Places on boards made right", ["board"])
mismatches = Counter(
    "scoreboard_ledger_mismatches_total", "Places in Postgres that the ledger does not say"
)

Where = tuple[Board, Period]


@dataclass(frozen=True, slots=True)
class Drift:
    """What is wrong on one board and period: players, and entries that are nobody's."""

    where: Where
    users: tuple[str, ...]
    strays: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.users) + len(self.strays)


class Auditor:
    """One of all replicas audits. Methods raise what the stores raise."""

    def __init__(self, boards: Boards, registry: Registry, standings: Standings) -> None:
        self._boards = boards
        self._registry = registry
        self._standings = standings
        self._after: str | None = None
        self._counted_after: str | None = None
        self._cursors: dict[tuple[str, int], int] = {}

    async def work(self, fence: int) -> None:
        """One pass: the first entries of every board, some others, and the next players."""
        share = await self._standings.players() // PASSES
        size = min(SAMPLE_MAX, max(SAMPLE_MIN, share))
        users = await self._standings.users(after=self._after, limit=size)
        self._after = users[-1] if len(users) == size else None
        for where in await self._complete():
            entries = await self._boards.first(*where, TOP)
            cursor = self._cursors.get(_key(where), 0)
            self._cursors[_key(where)], more = await self._boards.entries(*where, cursor, size)
            await self._repair(await self.drift(where, users, list({*entries, *more})))
        await self._count(COUNTED)

    async def sweep(self, where: Where, *, repair: bool) -> tuple[int, int]:
        """Everything of one board and period. Answers how much was looked at, and was wrong."""
        looked = wrong = 0
        after: str | None = None
        while users := await self._standings.users(after=after, limit=SWEPT):
            after = users[-1]
            found = await self.drift(where, users, [])
            looked, wrong = looked + len(users), wrong + len(found)
            if repair:
                await self._repair(found)
        cursor = 0
        while True:
            cursor, entries = await self._boards.entries(*where, cursor, SWEPT)
            found = await self.drift(where, [], entries)
            looked, wrong = looked + len(entries), wrong + len(found)
            if repair:
                await self._repair(found)
            if cursor == 0:
                return looked, wrong

    async def drift(self, where: Where, users: Sequence[str], entries: Sequence[bytes]) -> Drift:
        """What of these players and entries is wrong, and still is at a second look."""
        found = await self._look(where, users, entries)
        if found:
            await asyncio.sleep(SECOND_LOOK_S)
            found = await self._look(where, found.users, found.strays)
            # What the outbox holds is still to be told.
            concerned = {*found.users, *map(self._boards.player, found.strays)}
            untold = await self._standings.untold(list(concerned))
            found = Drift(
                where,
                tuple(user for user in found.users if user not in untold),
                tuple(
                    stray
                    for stray in await self._boards.there(*where, found.strays)
                    if self._boards.player(stray) not in untold
                ),
            )
        return found

    async def count(self, users: Sequence[str]) -> int:
        """How many places in Postgres differ from what the ledger says of those players.

        They are told and not repaired: somebody has changed what only the award may change.
        """
        listed = [known.board.name for known in self._registry.listed()]
        differing = await self._standings.miscounted(users, boards=listed)
        for wrong in differing:
            log.error(
                "ledger_mismatch_found",
                stream="security",
                board=wrong.board,
                period=wrong.period,
                user_id=wrong.user_id,
                score=wrong.score,
                counted=wrong.counted,
            )
        mismatches.inc(len(differing))
        return len(differing)

    async def _complete(self) -> list[Where]:
        wheres = [(k.board, p) for k in self._registry.listed() for p in k.open()]
        return [where for where in wheres if await self._boards.ready(*where)]

    async def _count(self, size: int) -> None:
        users = await self._standings.users(after=self._counted_after, limit=size)
        self._counted_after = users[-1] if len(users) == size else None
        await self.count(users)

    async def _look(self, where: Where, users: Sequence[str], entries: Sequence[bytes]) -> Drift:
        """Redis first, then Postgres: so nothing there can be newer than here."""
        everyone = list(dict.fromkeys([*users, *map(self._boards.player, entries)]))
        if not everyone:
            return Drift(where, (), ())
        states = await self._boards.states(*where, everyone)
        places = {
            s.user_id: s
            for s in await self._standings.of(everyone)
            if _key(where) == (s.board, s.period)
        }
        wrong = [
            user
            for user, state in zip(everyone, states, strict=True)
            if not _agree(state, places.get(user))
        ]
        board = where[0]
        strays = [
            entry
            for entry in entries
            if entry != self._boards.entry(board, places.get(self._boards.player(entry)))
        ]
        return Drift(where, tuple(wrong), tuple(strays))

    async def _repair(self, found: Drift) -> None:
        if not found:
            return
        board, period = found.where
        states = await self._boards.states(board, period, found.users)
        places = {
            s.user_id: s
            for s in await self._standings.of(found.users)
            if (s.board, s.period) == _key(found.where)
        }
        # What Postgres does not know at all, or not by that version, nobody can have put there.
        ghosts = [
            user
            for user, state in zip(found.users, states, strict=True)
            if state and (user not in places or state.version > places[user].version)
        ]
        if ghosts:
            await self._boards.forget(board, period, ghosts)
        if found.strays:
            await self._boards.drop(board, period, found.strays)
        await self._boards.place(list(places.values()), force=True)
        repaired.labels(board.name).inc(len(found))
        log.error(
            "drift_repaired",
            stream="security",
            board=board.name,
            period=period.id,
            players=found.users[:10],
            strays=len(found.strays),
            ghosts=len(ghosts),
        )


def _key(where: Where) -> tuple[str, int]:
    return where[0].name, where[1].start_ms


def _agree(state: State | None, standing: Standing | None) -> bool:
    """Whether Redis has what Postgres says. Versions may differ where the places do not."""
    on_board = state is not None and state.seq is not None
    if standing is None or standing.seq is None or standing.hidden:
        return not on_board and not (state and standing is None)
    return (
        state is not None
        and (state.score, state.seq, state.at_ms) == (standing.score, standing.seq, standing.at_ms)
        and state.version <= standing.version
    )
