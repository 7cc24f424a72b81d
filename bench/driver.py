"""The load: users who play, in a process of their own.

`python -m bench.driver` reads a `Load` from stdin, logs its users in, says `ready`, and
begins at the next line. It ends by writing what it `Measured`. Both are a line of JSON.
"""

import asyncio
import base64
import hmac
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.connection import Connection, post

LOGINS_AT_ONCE = 8
AWARDS_PER_S_MAX = 2_500  # more than two cores can do: for so many, actions are completed before
RATE_MARGIN = 1.3  # a random number of plays is not above it

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Load(msgspec.Struct, kw_only=True):
    """What to do: `users` play for `seconds`. The first of them are `known`, the rest register.

    Without a `rate` each of them asks again when answered; with one, so many plays a second
    begin at random moments, also while others are unanswered. `alone`: a play is the award of an
    action that was completed beforehand, else all from the request of its token on.
    """

    url: str
    users: int
    known: int
    password: str
    action_type: str
    points: int
    seconds: float
    rate: float = 0.0
    alone: bool = False


class Times(msgspec.Struct):
    """Percentiles, in ms."""

    p50: float
    p95: float
    p99: float


class Measured(msgspec.Struct, kw_only=True):
    """What came of it. An award counts when its answer is right.

    `unknown` awards are those asked for without an answer that says whether there is one.
    """

    awards: int
    unknown: int
    errors: dict[str, int]
    elapsed_s: float  # until the last answer
    cycle: Times
    award: Times
    cpu_s: float  # of this process


class Tally:
    """What all users saw."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.unknown = 0
        self.cycles_s: list[float] = []
        self.awards_s: list[float] = []


class Refused(Exception):
    """An answer that is not the right one; the message is its code."""


class Completed(NamedTuple):
    """An action that waits to be awarded."""

    action_id: str
    token: str
    key: bytes


class User:
    """A player on one connection, from an address of its own."""

    def __init__(self, load: Load, number: int) -> None:
        place = urlsplit(load.url)
        self._load = load
        self._is_known = number < load.known
        self._name = f"bench-{number}"
        self._host = place.netloc
        self._address = f"10.{number // 256}.{number % 256}.1"
        self._connection = Connection(place.hostname or "", place.port or 80)
        self._id = ""
        self._total: int | None = None  # as last answered; None: unknown
        self._headers = {"Host": self._host, "X-Forwarded-For": self._address}
        self._request = b""
        self._complete: Callable[[bytes], bytes]
        self._completed: list[Completed] = []

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to play."""
        return self._load.alone and not self._completed

    async def enter(self) -> None:
        """Logs in, registering where new. Raises Refused, OSError, TimeoutError."""
        path = "/auth/login" if self._is_known else "/auth/register"
        body = _encode({"username": self._name, "password": self._load.password})
        entered = await self._ask(post(path, self._headers)(body))
        self._id = entered["userId"]
        self._headers["Authorization"] = f"Bearer {entered['accessToken']}"
        wanted = _encode({"actionType": self._load.action_type})
        self._request = post("/actions/request", self._headers)(wanted)
        self._complete = post("/actions/complete", self._headers)

    async def prepare(self, actions: int) -> None:
        """Completes actions that can be awarded later. Raises as `enter`."""
        for _ in range(actions):
            action = await self._ask(self._request)
            names = {name: action[name] for name in ("actionId", "actionType")}
            done = await self._ask(self._complete(self._completion(action, names)))
            self._completed.append(
                Completed(action["actionId"], done["actionToken"], _key(action["signingKey"]))
            )

    async def play(self, tally: Tally) -> None:
        """One play, counted."""
        try:
            await self._cycle(tally)
        except Refused as refusal:
            tally.errors[str(refusal)] += 1
        except (OSError, ValueError, msgspec.DecodeError) as error:
            tally.errors[type(error).__name__] += 1

    def leave(self) -> None:
        """Closes the connection."""
        self._connection.close()

    async def _cycle(self, tally: Tally) -> None:
        started_s = time.perf_counter()
        if self._load.alone:
            request = self._update(self._completed.pop())
        else:
            action = await self._ask(self._request)
            token = {"actionToken": action["actionToken"]}
            request = self._complete(self._completion(action, token))
        asked_s = time.perf_counter()
        total, self._total = self._total, None
        try:
            status, body = await self._connection.ask(request)
        except (OSError, ValueError):
            tally.unknown += 1
            raise
        if status >= 500:
            tally.unknown += 1
        award = _right(status, body)
        self._check(award, total)
        self._total = award["newScore"]
        ended_s = time.perf_counter()
        tally.cycles_s.append(ended_s - started_s)
        tally.awards_s.append(ended_s - asked_s)

    def _completion(self, action: Mapping[str, Any], names: Mapping[str, str]) -> bytes:
        """The proof of a play that `names` name."""
        timestamp = _now()
        checksum = _signed(
            _key(action["signingKey"]),
            "proof.v1",
            self._id,
            action["actionId"],
            action["actionType"],
            action["nonce"],
            "0",
            timestamp,
            "",
        )
        proof = {"completionTime": 0, "checksum": checksum}
        return _encode({**names, "proof": proof, "timestamp": timestamp})

    def _update(self, action: Completed) -> bytes:
        load, timestamp = self._load, _now()
        claims = (self._id, action.action_id, load.action_type, str(load.points), timestamp)
        body = {
            "userId": self._id,
            "actionId": action.action_id,
            "actionType": load.action_type,
            "scoreIncrement": load.points,
            "timestamp": timestamp,
            "clientSignature": _signed(action.key, "score.v1", *claims),
        }
        headers = {**self._headers, "X-Action-Token": action.token}
        return post("/scores/update", headers)(_encode(body))

    def _check(self, award: Mapping[str, Any], total: int | None) -> None:
        old, new = award["oldScore"], award["newScore"]
        # No one else plays for this user, so each award goes on where the last one ended.
        goes_on = total is None or total == old
        if not goes_on or new != old + self._load.points or award["held"]:
            raise Refused("WRONG_SCORE")

    async def _ask(self, request: bytes) -> Any:
        return _right(*await self._connection.ask(request))


async def enter(load: Load) -> list[User]:
    """The users, logged in, with all they need to play."""
    users = [User(load, number) for number in range(load.users)]
    for some in _parts(users):
        await asyncio.gather(*(user.enter() for user in some))
    if load.alone:
        most = load.seconds * (load.rate * RATE_MARGIN or AWARDS_PER_S_MAX)
        await asyncio.gather(*(user.prepare(math.ceil(most / load.users)) for user in users))
    return users


async def play(users: list[User], load: Load) -> Measured:
    """Lets all users play."""
    tally = Tally()
    cpu_s, started_s = time.process_time(), time.perf_counter()
    until_s = started_s + load.seconds
    if load.rate:
        await _at_random(users, load.rate, until_s, tally)
    else:
        await asyncio.gather(*(_without_pause(user, until_s, tally) for user in users))
    ended_s, cpu_s = time.perf_counter(), time.process_time() - cpu_s
    for user in users:
        user.leave()
    return Measured(
        awards=len(tally.awards_s),
        unknown=tally.unknown,
        errors=dict(tally.errors),
        elapsed_s=ended_s - started_s,
        cycle=_times(tally.cycles_s),
        award=_times(tally.awards_s),
        cpu_s=cpu_s,
    )


async def _without_pause(user: User, until_s: float, tally: Tally) -> None:
    while time.perf_counter() < until_s and not user.idle:
        await user.play(tally)


async def _at_random(users: list[User], rate: float, until_s: float, tally: Tally) -> None:
    """A Poisson process: plays begin independently of each other and of the answers."""
    dice, free, due_s = random.Random(1), asyncio.Queue[User](), time.perf_counter()
    for user in users:
        free.put_nowait(user)

    async def one() -> None:
        user = await free.get()
        if not user.idle:
            await user.play(tally)
        free.put_nowait(user)

    async with asyncio.TaskGroup() as group:
        while (due_s := due_s + dice.expovariate(rate)) < until_s:
            await asyncio.sleep(due_s - time.perf_counter())
            group.create_task(one())


def main() -> None:
    load = msgspec.json.decode(sys.stdin.readline(), type=Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        users = runner.run(enter(load))
        print("ready", flush=True)
        if not sys.stdin.readline():
            return  # Who started us is unavailable.
        measured = runner.run(play(users, load))
    print(_encode(measured).decode(), flush=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _key(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=")


def _signed(key: bytes, *fields: str) -> str:
    return hmac.digest(key, "\n".join(fields).encode(), "sha256").hex()


def _right(status: int, body: bytes) -> Any:
    answer = _decode(body)
    if status not in (200, 201):
        raise Refused(answer.get("code", str(status)))
    return answer


def _parts(users: list[User]) -> Iterator[list[User]]:
    for start in range(0, len(users), LOGINS_AT_ONCE):
        yield users[start : start + LOGINS_AT_ONCE]


def _times(values_s: list[float]) -> Times:
    ordered = sorted(values_s)

    def percentile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0

    return Times(percentile(0.5), percentile(0.95), percentile(0.99))


if __name__ == "__main__":
    main()
