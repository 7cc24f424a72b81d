"""Simulated players: honest people of varied skill and pace, so that the board is alive.

`python -m local.players <url> <count> <file>` plays until SIGTERM and prints a summary once
a minute. Each player has an address in a /24 of its own, so that limits hold for
each as for a person.
"""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from local.roster import Person, Roster
from scoreboard_client import Action, ApiError, Award, Client

_PLAY_MIN_S, _PLAY_MAX_S = 2.0, 20.0
_BACKOFF_MIN_S, _BACKOFF_MAX_S = 5.0, 30.0

# A spell of play ends with a break. The breaks grow, so that a day of it stays below the
# limits of an hour (100 actions) and of a day (500), as it would with people.
_SPELL_PLAYS = (10, 22)
_BREAK_FIRST_S, _BREAK_GROWTH_S, _BREAK_MAX_S = 8 * 60.0, 4 * 60.0, 90 * 60.0
_BETWEEN_LOGINS_S = 0.5
_SUMMARY_S = 60.0


@dataclass
class Tally:
    """What all players did since the last summary, and how many are taking a break."""

    awards: int = 0
    points: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    resting: int = 0

    def summary(self, *, players: int) -> str:
        """One line; begins the count again."""
        codes = ", ".join(f"{code} {count}" for code, count in self.failures.most_common(3))
        line = (
            f"players: {players - self.resting} play, {self.resting} rest;"
            f" {self.awards} awards, {self.points} points, {self.failures.total()} failures"
            f"{f' ({codes})' if codes else ''}"
        )
        self.awards = self.points = 0
        self.failures.clear()
        return line


@dataclass(kw_only=True)
class Player:
    """One of them. One at a time holds `login_lock`: a password costs its server much."""

    client: Client
    person: Person
    roster: Roster
    login_lock: asyncio.Lock
    tally: Tally
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def __post_init__(self) -> None:
        self._skill = self.chance.random()
        self._cycle_s = self.chance.uniform(12, 20)  # from one play to the next: 3 to 5 a minute
        self._is_in = False

    async def live(self) -> None:
        """Plays until cancelled; what fails is counted and tried again after a pause."""
        spells, backoff_s = 0, _BACKOFF_MIN_S
        left = self.chance.randint(*_SPELL_PLAYS)
        while True:
            try:
                if not self._is_in:
                    await self._enter()
                award = await self._play()
            except Exception as error:
                # Whatever it is, the others play on, and so does this one after a while.
                await self.sleep(max(backoff_s, self._note(error)))
                backoff_s = min(_BACKOFF_MAX_S, 2 * backoff_s)
                continue
            backoff_s = _BACKOFF_MIN_S
            self.tally.awards += 1
            self.tally.points += award.score_increment
            left -= 1
            if left == 0:
                await self._rest(spells)
                spells, left = spells + 1, self.chance.randint(*_SPELL_PLAYS)

    async def _enter(self) -> None:
        """Logs in, or registers a player without an account. Raises ApiError."""
        async with self.login_lock:
            await self.sleep(_BETWEEN_LOGINS_S)
            person = self.person
            try:
                if person.is_registered:
                    await self.client.login(person.username, person.password)
                else:
                    await self.client.register(person.username, person.password)
            except ApiError as refusal:
                if refusal.code == "USERNAME_TAKEN":
                    person.username = self.roster.unused_name()
                elif refusal.code == "INVALID_CREDENTIALS":
                    person.is_registered = False
                self.roster.save()
                raise
            self._is_in = person.is_registered = True
            self.roster.save()

    async def _play(self) -> Award:
        action = await self.client.request_action(self._choose())
        took_ms = self._duration_ms(action)
        await self.sleep(took_ms / 1000)
        way = self.chance.choice(("complete", "update", "increment"))
        if way == "complete":
            award = await self.client.complete(action, completion_time_ms=took_ms)
        else:
            verified = await self.client.verify(action, completion_time_ms=took_ms)
            redeem = self.client.update if way == "update" else self.client.increment
            award = await redeem(verified)
        await self.sleep(max(0.5, self._cycle_s * self.chance.uniform(0.6, 1.4) - took_ms / 1000))
        return award

    def _choose(self) -> str:
        weights = {"COMPLETE_LEVEL": 1.0, "WIN_GAME": self._skill, "COMPLETE_QUEST": self._skill**2}
        return self.chance.choices(list(weights), list(weights.values()))[0]

    def _duration_ms(self, action: Action) -> int:
        low_ms = max(action.min_duration_ms, _PLAY_MIN_S * 1000)
        high_ms = max(low_ms, min(action.max_duration_ms, _PLAY_MAX_S * 1000))
        usual_ms = low_ms + (high_ms - low_ms) * (0.6 - 0.5 * self._skill)
        return round(self.chance.triangular(low_ms, high_ms, usual_ms))

    def _note(self, error: Exception) -> float:
        """Counts the failure; returns for how many seconds the server wants no requests."""
        if not isinstance(error, ApiError):
            self.tally.failures[type(error).__name__] += 1
            return 0.0
        self.tally.failures[error.code] += 1
        if error.status == 401:
            self._is_in = False
        return error.retry_after_s

    async def _rest(self, spells: int) -> None:
        self.tally.resting += 1
        try:
            usual_s = min(_BREAK_MAX_S, _BREAK_FIRST_S + spells * _BREAK_GROWTH_S)
            await self.sleep(usual_s * self.chance.uniform(0.7, 1.3))
        finally:
            self.tally.resting -= 1


def address(number: int) -> str:
    """Where the player of that number comes from: a /24 of its own."""
    return f"10.{number // 256}.{number % 256}.{random.randint(1, 254)}"


async def play(url: str, *, count: int, path: Path) -> None:
    """Lets `count` players of the roster in `path` play at `url` until cancelled."""
    roster = Roster(path, count=count)
    tally = Tally()
    player = partial(Player, roster=roster, login_lock=asyncio.Lock(), tally=tally)

    async def one(number: int, person: Person) -> None:
        async with Client(url, headers={"X-Forwarded-For": address(number)}) as client:
            await player(client=client, person=person).live()

    async with asyncio.TaskGroup() as group:
        for number, person in enumerate(roster.people):
            group.create_task(one(number, person))
        while True:
            await asyncio.sleep(_SUMMARY_S)
            print(tally.summary(players=count), flush=True)


async def main(url: str, count: str, path: str) -> None:
    task = asyncio.create_task(play(url, count=int(count), path=Path(path)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
