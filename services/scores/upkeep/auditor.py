"""The auditor: compares boards with Postgres, and Postgres with the ledger, all the time."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from chassis.telemetry import log
from services.scores.boards import Boards
from services.scores.boards.rules import Period
from services.scores.boards.store import Standing
from services.scores.upkeep.redis_boards import RedisBoards, State, entry, player
from services.scores.upkeep.store import UpkeepStore

TOP = 100
SAMPLE_MIN, SAMPLE_MAX = 10, 100  # of players and of entries, a pass
PASSES = 40  # a second each, in which what is small is swept
COUNTED = 20  # players whose awards are added up again in a pass
COUNTED_ROWS = 250  # of the ledger, that a pass reads for it on average
SWEPT = 1000  # at once, when an operator asks for everything
# What was awarded a moment ago may be in Postgres and not yet in Redis.
SECOND_LOOK_S = 0.3

repaired = Counter("scoreboard_drift_repaired_total", "Places on boards made right", ["board"])
mismatches = Counter(
    "scoreboard_ledger_mismatches_total", "Scores in Postgres that differ from the ledger"
)


@dataclass(frozen=True, slots=True)
class Part:
    """Players and entries of one period of a board: a sample, or what of it is wrong."""

    period: Period
    users: Sequence[str]
    entries: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.users) + len(self.entries)

    @property
    def everyone(self) -> list[str]:
        """The players concerned, each once."""
        return list(dict.fromkeys([*self.users, *map(player, self.entries)]))


class Auditor:
    """One of all replicas audits. Methods raise RedisError and DbUnavailable."""

    def __init__(self, boards: Boards, redis_boards: RedisBoards, store: UpkeepStore) -> None:
        self._boards = boards
        self._redis_boards = redis_boards
        self._store = store
        self._size = SAMPLE_MIN
        self._after: str | None = None
        self._counted_after: str | None = None
        self._rows_left = 0
        self._cursors: dict[str, int] = {}  # by period

    async def work(self, fence: int) -> None:
        """One pass: the first entries of every board, some others, and the next players."""
        if self._after is None:
            share = await self._store.players() // PASSES
            self._size = min(SAMPLE_MAX, max(SAMPLE_MIN, share))
        users = await self._store.users(after=self._after, limit=self._size)
        self._after = users[-1] if len(users) == self._size else None
        listed = self._boards.registry.listed()
        for known in listed:
            # There before its first event, which else has no rate.
            repaired.labels(known.board.name)
        periods = [period for known in listed for period in known.open()]
        sample = [
            Part(period, users, await self._entries(period))
            for period in periods
            if await self._redis_boards.ready(period)
        ]
        for found in await self.drift(sample):
            await self._repair(found)
        await self._count()

    async def sweep(self, period: Period, *, repair: bool) -> tuple[int, int]:
        """Everything of one period. Returns how much was checked, and how much was wrong."""
        checked = wrong = 0
        async for part in self._parts(period):
            checked += len(part)
            for found in await self.drift([part]):
                wrong += len(found)
                if repair:
                    await self._repair(found)
        return checked, wrong

    async def drift(self, parts: Sequence[Part]) -> list[Part]:
        """What of these players and entries is wrong, and still is at a second look."""
        found = await self._look(parts)
        if not found:
            return []
        users = list({user for part in found for user in part.everyone})
        before = await self._store.versions(users)
        await asyncio.sleep(SECOND_LOOK_S)
        # What the outbox holds is still to be published, and a player changed between the looks may
        # be in Postgres and not yet in Redis at either: another pass checks these.
        unsettled = await self._store.unpublished(users)
        found = await self._look(found)
        after = await self._store.versions(users)
        unsettled |= {user for user in users if before.get(user) != after.get(user)}
        settled = [
            Part(
                part.period,
                [user for user in part.users if user not in unsettled],
                [
                    stray
                    for stray in await self._redis_boards.there(part.period, part.entries)
                    if player(stray) not in unsettled
                ],
            )
            for part in found
        ]
        return [part for part in settled if part]

    async def count(self, users: Sequence[str]) -> int:
        """How many scores of those players in Postgres differ from the ledger.

        They are logged and not repaired: something changed what only the award may change.
        """
        listed = [known.board.name for known in self._boards.registry.listed()]
        differing = await self._store.miscounted(users, boards=listed)
        for wrong in differing:
            log.error("ledger_mismatch_found", stream="security", **wrong)
        mismatches.inc(len(differing))
        return len(differing)

    async def _parts(self, period: Period) -> AsyncIterator[Part]:
        """All players, then all entries."""
        after: str | None = None
        while users := await self._store.users(after=after, limit=SWEPT):
            after = users[-1]
            yield Part(period, users, [])
        cursor = 0
        while True:
            cursor, entries = await self._redis_boards.entries(period, cursor, SWEPT)
            yield Part(period, [], entries)
            if cursor == 0:
                return

    async def _entries(self, period: Period) -> list[bytes]:
        """The first ones, and some of the others."""
        first = await self._redis_boards.first(period, TOP)
        cursor = self._cursors.get(period.tag, 0)
        self._cursors[period.tag], more = await self._redis_boards.entries(
            period, cursor, self._size
        )
        return list({*first, *more})

    async def _count(self) -> None:
        # A player with more rows than that is counted at once all the same, and the next passes
        # count none until it is made up for: so every player's turn comes.
        self._rows_left = min(self._rows_left, 0) + COUNTED_ROWS
        if self._rows_left <= 0:
            return
        players = await self._store.changes(after=self._counted_after, limit=COUNTED)
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

    async def _look(self, parts: Sequence[Part]) -> list[Part]:
        """Reads Redis first, then Postgres, once for all: so nothing in Redis can be newer."""
        states = [await self._redis_boards.states(part.period, part.everyone) for part in parts]
        places = await self._places({user for part in parts for user in part.everyone})
        wrong = []
        for part, known in zip(parts, states, strict=True):
            there = places.get(_key(part.period))
            if there is None:
                continue
            users = [
                user
                for user, state in zip(part.everyone, known, strict=True)
                if not _agree(state, there.get(user))
            ]
            strays = [e for e in part.entries if e != entry(part.period, there.get(player(e)))]
            wrong.append(Part(part.period, users, strays))
        return [part for part in wrong if part]

    async def _places(self, users: Collection[str]) -> dict[tuple[str, int], dict[str, Standing]]:
        """Where those players stand, by board and period; closed periods are left out.

        A period may be closed that the registry still has as open: its players then have no
        standings any more, and what Redis has of them is not read again.
        """
        standings = await self._boards.store.of(list(users))
        # Read after the standings: what is open by now was open then, so none of them is missing.
        places: dict[tuple[str, int], dict[str, Standing]] = {
            key: {} for key in await self._store.open_periods()
        }
        for standing in standings:
            if (there := places.get((standing.board, standing.period))) is not None:
                there[standing.user_id] = standing
        return places

    async def _repair(self, found: Part) -> None:
        period = found.period
        states = await self._redis_boards.states(period, found.users)
        places = (await self._places(found.users)).get(_key(period))
        if places is None:
            return
        # What Postgres does not have, or not in that version, this service did not put there.
        ghosts = [
            user
            for user, state in zip(found.users, states, strict=True)
            if state and (user not in places or state.version > places[user].version)
        ]
        if ghosts:
            await self._redis_boards.forget(period, ghosts)
        if found.entries:
            await self._redis_boards.drop(period, found.entries)
        await self._boards.places.place(list(places.values()), force=True)
        repaired.labels(period.board.name).inc(len(found))
        log.error(
            "drift_repaired",
            stream="security",
            board=period.board.name,
            period=period.id,
            players=found.users[:10],
            strays=len(found.entries),
            ghosts=len(ghosts),
        )


def _key(period: Period) -> tuple[str, int]:
    return period.board.name, period.start_ms


def _agree(state: State | None, standing: Standing | None) -> bool:
    """Whether Redis has what Postgres has. Versions may differ where the places do not."""
    on_board = state is not None and state.seq is not None
    if standing is None or standing.seq is None or standing.hidden:
        return not on_board and not (state and standing is None)
    return (
        state is not None
        and (state.score, state.seq, state.at_ms) == (standing.score, standing.seq, standing.at_ms)
        and state.version <= standing.version
    )
