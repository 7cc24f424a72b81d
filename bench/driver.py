"""The load: users who play without a pause, in a process of their own.

`python -m bench.driver` reads a `Load` from stdin, logs its users in, says `ready`, and
begins at the next line. It ends by writing what it `Measured`. Both are a line of JSON.
"""

import asyncio
import base64
import hmac
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.connection import Connection, post

LOGINS_AT_ONCE = 8

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Load(msgspec.Struct, kw_only=True):
    """What to do: `users` in a closed loop for `seconds`. They are `new` once."""

    url: str
    users: int
    new: bool
    password: str
    action_type: str
    points: int
    seconds: float


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


class User:
    """A player on one connection, from an address of its own."""

    def __init__(self, load: Load, number: int) -> None:
        place = urlsplit(load.url)
        self._load = load
        self._name = f"bench-{number}"
        self._host = place.netloc
        self._address = f"10.{number // 256}.{number % 256}.1"
        self._connection = Connection(place.hostname or "", place.port or 80)
        self._id = ""
        self._total: int | None = None  # as last answered; None: unknown
        self._request = b""
        self._complete: Callable[[bytes], bytes]

    async def enter(self) -> None:
        """Logs in, registering where new. Raises Refused, OSError, TimeoutError."""
        path = "/auth/register" if self._load.new else "/auth/login"
        headers = {"Host": self._host, "X-Forwarded-For": self._address}
        body = _encode({"username": self._name, "password": self._load.password})
        entered = await self._ask(post(path, headers)(body))
        self._id = entered["userId"]
        headers["Authorization"] = f"Bearer {entered['accessToken']}"
        wanted = _encode({"actionType": self._load.action_type})
        self._request = post("/actions/request", headers)(wanted)
        self._complete = post("/actions/complete", headers)

    async def play(self, until_s: float, tally: Tally) -> None:
        """Plays until then, by the performance counter; ends with the answer to the last play."""
        while time.perf_counter() < until_s:
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
        action = await self._ask(self._request)
        request = self._complete(self._completion(action))
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

    def _completion(self, action: Mapping[str, Any]) -> bytes:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        key = base64.urlsafe_b64decode(action["signingKey"] + "=")
        text = (
            f"proof.v1\n{self._id}\n{action['actionId']}\n{action['actionType']}\n"
            f"{action['nonce']}\n0\n{timestamp}\n"
        )
        proof = {"completionTime": 0, "checksum": hmac.digest(key, text.encode(), "sha256").hex()}
        return _encode(
            {"actionToken": action["actionToken"], "proof": proof, "timestamp": timestamp}
        )

    def _check(self, award: Mapping[str, Any], total: int | None) -> None:
        old, new = award["oldScore"], award["newScore"]
        # Nobody else plays for this user, so each award goes on where the last one ended.
        goes_on = total is None or total == old
        if not goes_on or new != old + self._load.points or award["held"]:
            raise Refused("WRONG_SCORE")

    async def _ask(self, request: bytes) -> Any:
        return _right(*await self._connection.ask(request))


async def enter(load: Load) -> list[User]:
    """The users, logged in."""
    users = [User(load, number) for number in range(load.users)]
    for some in _parts(users):
        await asyncio.gather(*(user.enter() for user in some))
    return users


async def play(users: list[User], seconds: float) -> Measured:
    """Lets all users play."""
    tally = Tally()
    cpu_s, started_s = time.process_time(), time.perf_counter()
    until_s = started_s + seconds
    await asyncio.gather(*(user.play(until_s, tally) for user in users))
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


def main() -> None:
    load = msgspec.json.decode(sys.stdin.readline(), type=Load)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        users = runner.run(enter(load))
        print("ready", flush=True)
        if not sys.stdin.readline():
            return  # Who started us is gone.
        measured = runner.run(play(users, load.seconds))
    print(_encode(measured).decode(), flush=True)


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
