"""Simulated players: honest people of varied skill, so that the board is alive at any time.

`python -m local.players <url> <count> <file>` plays until SIGTERM and prints a summary once
a minute. Each player has an address in a /24 of its own, so that limits hold for
each as for a person.

**Turns.** All play in rounds, each player once a round and in random order, so that some
play at any time and none more often than it may. How long a round is follows from the limits
that the server names. Of its defaults the day's is the tightest: 500 actions a day are one in
172.8 s, and one in 192 s with a tenth to spare. 50 players then begin a play every 3.84 s on
average and every 5 s at least; a play takes 2 to 6 s, so awards are 9 s apart at most. (20
players could not do better than one in 9.6 s.)

**Moves.** A page shows the first ten, a fifth of the players. So each plays the least that
brings it among them, where something does, else what is worth most: two of three awards show.
The first rounds are of fewer players, while the first ten are still near for who begins at 0.
"""

import asyncio
import itertools
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from local.roster import Person, Roster
from scoreboard_client import Action, ApiError, Award, Client

_USED = 0.9  # of what the limits allow
_SHOWN = 10  # entries that a page shows
_FIRST, _JOINING = 20, 10  # players of the first round, and how many more each has
_TYPES = ("COMPLETE_LEVEL", "WIN_GAME", "COMPLETE_QUEST")
_PLAY_MIN_S, _PLAY_MAX_S = 2.0, 6.0
_TURN_S = 4.0  # between two turns while no limit is known, or no player is free
_SUMMARY_S = 60.0


@dataclass
class Tally:
    """What all players did since the last summary."""

    awards: int = 0
    points: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def summary(self, *, players: int, resting: int) -> str:
        """One line; begins the count again."""
        codes = ", ".join(f"{code} {count}" for code, count in self.failures.most_common(3))
        line = (
            f"players: {players - resting} play, {resting} rest;"
            f" {self.awards} awards, {self.points} points, {self.failures.total()} failures"
            f"{f' ({codes})' if codes else ''}"
        )
        self.awards = self.points = 0
        self.failures.clear()
        return line


@dataclass(kw_only=True)
class Player:
    """One of them."""

    client: Client
    person: Person
    roster: Roster
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    rests_until_s: float = 0.0  # as its server wants it
    plays: bool = False

    def __post_init__(self) -> None:
        self._skill = self.chance.random()
        self._score = 0  # since the last award; what it was before does not matter for long
        self._points: dict[str, int] = {}  # by action type
        self._is_in = False

    @property
    def turns_per_s(self) -> float:
        """How often it may play at any time; 0: no limit is known yet."""
        limits = self.client.limits.values() if self._is_in else ()
        return min((limit.requests / limit.window_s for limit in limits), default=0.0)

    async def turn(self) -> Award:
        """One play, from its choice to its award. Raises what its client raises."""
        try:
            if not self._is_in:
                await self._enter()
            return await self._play()
        except ApiError as refusal:
            if refusal.status == 401:
                self._is_in = False
            raise

    async def _enter(self) -> None:
        """Logs in, or registers where there is no account or its name is another's."""
        try:
            await self._log_in()
        except ApiError as refusal:
            if refusal.code == "USERNAME_TAKEN":
                self.person.username = self.roster.unused_name()
            elif refusal.code == "INVALID_CREDENTIALS":
                self.person.is_registered = False
            else:
                raise
            self.roster.save()
            await self._log_in()
        types = await self.client.call("GET", "/actions/types")
        worth = {each["actionType"]: each["points"] for each in types["types"]}
        self._points = {name: worth[name] for name in _TYPES if worth.get(name)}
        self._is_in = True

    async def _log_in(self) -> None:
        person = self.person
        if person.is_registered:
            await self.client.login(person.username, person.password)
        else:
            await self.client.register(person.username, person.password)
            person.is_registered = True
            self.roster.save()

    async def _play(self) -> Award:
        action = await self.client.request_action(await self._choose())
        took_ms = self._duration_ms(action)
        await self.sleep(took_ms / 1000)
        way = self.chance.choice(("complete", "update", "increment"))
        if way == "complete":
            award = await self.client.complete(action, completion_time_ms=took_ms)
        else:
            verified = await self.client.verify(action, completion_time_ms=took_ms)
            redeem = self.client.update if way == "update" else self.client.increment
            award = await redeem(verified)
        self._score = award.new_score
        return award

    async def _choose(self) -> str:
        entries = (await self.client.leaderboard(limit=_SHOWN))["entries"]
        least = entries[-1]["score"] if len(entries) == _SHOWN else 0
        by_points = sorted(self._points, key=self._points.__getitem__)
        enough = (name for name in by_points if self._score + self._points[name] > least)
        return next(enough, by_points[-1])

    def _duration_ms(self, action: Action) -> int:
        low_ms = max(action.min_duration_ms, _PLAY_MIN_S * 1000)
        high_ms = max(low_ms, min(action.max_duration_ms, _PLAY_MAX_S * 1000))
        usual_ms = low_ms + (high_ms - low_ms) * (0.6 - 0.5 * self._skill)
        return round(self.chance.triangular(low_ms, high_ms, usual_ms))


@dataclass(kw_only=True)
class Rounds:
    """Gives the players their turns."""

    players: Sequence[Player]
    tally: Tally
    chance: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    now_s: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        """Plays until cancelled; what fails is counted, and its player's turn is over."""
        everyone = len(self.players)
        sizes = itertools.chain(range(_FIRST, everyone, _JOINING), itertools.repeat(everyone))
        async with asyncio.TaskGroup() as group:
            for size in sizes:
                began = False
                for player in self.chance.sample(self.players[:size], size):
                    if not player.plays and player.rests_until_s <= self.now_s():
                        began = player.plays = True
                        group.create_task(self._turn(player))
                        await self.sleep(self._pause_s() * self.chance.uniform(0.7, 1.3))
                if not began:
                    await self.sleep(_TURN_S)

    @property
    def resting(self) -> int:
        """How many players their server wants no requests of at present."""
        return sum(player.rests_until_s > self.now_s() for player in self.players)

    def _pause_s(self) -> float:
        # The rate of those whose limits are not halved; these rest when they are refused.
        turns_per_s = max(player.turns_per_s for player in self.players)
        players = max(1, len(self.players) - self.resting)
        return 1 / (turns_per_s * _USED * players) if turns_per_s else _TURN_S

    async def _turn(self, player: Player) -> None:
        try:
            award = await player.turn()
        except ApiError as refusal:
            self.tally.failures[refusal.code] += 1
            player.rests_until_s = self.now_s() + refusal.retry_after_s
        except Exception as error:
            # Of any kind: the others play on, and so does this one in the next round.
            self.tally.failures[type(error).__name__] += 1
        else:
            self.tally.awards += 1
            self.tally.points += award.score_increment
        finally:
            player.plays = False


def address(number: int) -> str:
    """Where the player of that number comes from: a /24 of its own."""
    return f"10.{number // 256}.{number % 256}.{random.randint(1, 254)}"


async def play(url: str, *, count: int, path: Path) -> None:
    """Lets `count` players of the roster in `path` play at `url` until cancelled."""
    roster, tally = Roster(path, count=count), Tally()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        players = []
        for number, person in enumerate(roster.people):
            client = Client(url, headers={"X-Forwarded-For": address(number)})
            await stack.enter_async_context(client)
            players.append(Player(client=client, person=person, roster=roster))
        rounds = Rounds(players=players, tally=tally)
        group.create_task(rounds.run())
        while True:
            await asyncio.sleep(_SUMMARY_S)
            print(tally.summary(players=count, resting=rounds.resting), flush=True)


async def main(url: str, count: str, path: str) -> None:
    task = asyncio.create_task(play(url, count=int(count), path=Path(path)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
