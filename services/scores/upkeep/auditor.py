"""The auditor: holds boards against Postgres, and Postgres against the ledger, all the time."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from chassis.telemetry import log
from services.scores.boards.places import Boards, State
from services.scores.boards.registry import Registry
from services.scores.boards.rules import Board, Period
from services.scores.boards.store import Standing, Standings

TOP = 100
SAMPLE_MIN, SAMPLE_MAX = 10, 100  # of players and of entries, a pass
PASSES = 40  # a second each, in which what is small is swept
COUNTED = 20  # players whose awards are counted anew in a pass
COUNTED_ROWS = 250  # of the ledger, that a pass reads for it on average
SWEPT = 1000  # at once, when an operator asks for everything
# What was awarded a moment ago may be in Postgres and not yet in Redis.
SECOND_LOOK_S = 0.3

repaired = Counter("scoreboard_drift_repaired_total", "Places on boards made right", ["board"])
mismatches = Counter(
    "scoreboard_ledger_mismatches_total", "Places in Postgres that the ledger does not say"
)

Where = tuple[Board, Period]


@dataclass(frozen=True, slots=True)
class Part:
    """Players and entries of one board and period: what is looked at, or what of it is wrong."""

    where: Where
    users: Sequence[str]
    entries: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.users) + len(self.entries)


class Auditor:
    """One of all replicas audits. Methods raise what the stores raise."""

    def __init__(self, boards: Boards, registry: Registry, standings: Standings) -> None:
        self._boards = boards
        self._registry = registry
        self._standings = standings
        self._size = SAMPLE_MIN
        self._after: str | None = None
        self._counted_after: str | None = None
        self._rows_left = 0
        self._cursors: dict[tuple[str, int], int] = {}

    async def work(self, fence: int) -> None:
        """One pass: the first entries of every board, some others, and the next players."""
        if self._after is None:
            share = await self._standings.players() // PASSES
            self._size = min(SAMPLE_MAX, max(SAMPLE_MIN, share))
        users = await self._standings.users(after=self._after, limit=self._size)
        self._after = users[-1] if len(users) == self._size else None
        sample = [
            Part(where, users, await self._entries(where)) for where in await self._complete()
        ]
        for found in await self.drift(sample):
            await self._repair(found)
        await self._count()

    async def sweep(self, where: Where, *, repair: bool) -> tuple[int, int]:
        """Everything of one board and period. Answers how much was looked at, and was wrong."""
        looked = wrong = 0
        after: str | None = None
        while users := await self._standings.users(after=after, limit=SWEPT):
            after = users[-1]
            looked += len(users)
            wrong += await self._sweep(Part(where, users, []), repair=repair)
        cursor = 0
        while True:
            cursor, entries = await self._boards.entries(*where, cursor, SWEPT)
            looked += len(entries)
            wrong += await self._sweep(Part(where, [], entries), repair=repair)
            if cursor == 0:
                return looked, wrong

    async def drift(self, parts: Sequence[Part]) -> list[Part]:
        """What of these players and entries is wrong, and still is at a second look."""
        found = await self._look(parts)
        if not found:
            return []
        users = list({user for part in found for user in self._all(part)})
        before = await self._standings.versions(users)
        await asyncio.sleep(SECOND_LOOK_S)
        # What the outbox holds is still to be told, and whoever is changed between the looks may
        # be in Postgres and not yet in Redis at either: another pass will see.
        untold = await self._standings.untold(users)
        found = await self._look(found)
        after = await self._standings.versions(users)
        untold |= {user for user in users if before.get(user) != after.get(user)}
        told = [
            Part(
                part.where,
                [user for user in part.users if user not in untold],
                [
                    stray
                    for stray in await self._boards.there(*part.where, part.entries)
                    if self._boards.player(stray) not in untold
                ],
            )
            for part in found
        ]
        return [part for part in told if part]

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

    async def _entries(self, where: Where) -> list[bytes]:
        """The first ones, and some of the others."""
        first = await self._boards.first(*where, TOP)
        cursor = self._cursors.get(_key(where), 0)
        self._cursors[_key(where)], more = await self._boards.entries(*where, cursor, self._size)
        return list({*first, *more})

    async def _sweep(self, part: Part, *, repair: bool) -> int:
        wrong = 0
        for found in await self.drift([part]):
            wrong += len(found)
            if repair:
                await self._repair(found)
        return wrong

    async def _count(self) -> None:
        # Whoever has more awards than that is counted at once all the same, and the next passes
        # count nobody until it is made up for: so everybody's turn comes.
        self._rows_left = min(self._rows_left, 0) + COUNTED_ROWS
        if self._rows_left <= 0:
            return
        players = await self._standings.changes(after=self._counted_after, limit=COUNTED)
        users = []
        for user, changes in players:
            if self._rows_left <= 0:
                break
            users.append(user)
            self._rows_left -= changes
        all_counted = len(users) == len(players) < COUNTED
        self._counted_after = None if all_counted else users[-1]
        if users:
            await self.count(users)

    def _all(self, part: Part) -> list[str]:
        """The players concerned, each once."""
        return list(dict.fromkeys([*part.users, *map(self._boards.player, part.entries)]))

    async def _look(self, parts: Sequence[Part]) -> list[Part]:
        """Redis first, then Postgres, once for all: so nothing there can be newer than here."""
        concerned = [self._all(part) for part in parts]
        states = [
            await self._boards.states(*part.where, users) if users else []
            for part, users in zip(parts, concerned, strict=True)
        ]
        places: dict[tuple[str, int], dict[str, Standing]] = {}
        for standing in await self._standings.of(list({u for users in concerned for u in users})):
            places.setdefault((standing.board, standing.period), {})[standing.user_id] = standing
        wrong = [
            self._wrong(
                part, dict(zip(users, known, strict=True)), places.get(_key(part.where), {})
            )
            for part, users, known in zip(parts, concerned, states, strict=True)
        ]
        return [part for part in wrong if part]

    def _wrong(
        self, part: Part, states: Mapping[str, State | None], places: Mapping[str, Standing]
    ) -> Part:
        return Part(
            part.where,
            [user for user, state in states.items() if not _agree(state, places.get(user))],
            [
                entry
                for entry in part.entries
                if entry
                != self._boards.entry(part.where[0], places.get(self._boards.player(entry)))
            ],
        )

    async def _repair(self, found: Part) -> None:
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
        if found.entries:
            await self._boards.drop(board, period, found.entries)
        await self._boards.place(list(places.values()), force=True)
        repaired.labels(board.name).inc(len(found))
        log.error(
            "drift_repaired",
            stream="security",
            board=board.name,
            period=period.id,
            players=found.users[:10],
            strays=len(found.entries),
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
