"""The short windows in Redis: each player's attempts of the last seconds. They may be lost."""

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from chassis import clock
from chassis.redis import UNAVAILABLE, Call, Redis, Script
from services.fraud import rules
from services.fraud.evaluations import Attempt
from services.fraud.rules import Burst

VERDICT_KEPT_MS = 600_000  # an action's token does not live longer
UNLIMITED = 2**53 - 1
SHARDS = 64
COUNT_S = 0.3  # the caller of Judge waits 0.5 s


class WindowsUnavailable(Exception):
    """Redis is unavailable or slow."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the windows hold of an attempt: a burst, or that it was allowed earlier."""

    burst: Burst | None = None
    fixed: bool = False


NOTHING = Counted()
FIXED = Counted(fixed=True)


class Windows:
    """Counts attempts and fixes the verdicts of accepted ones for 10 minutes."""

    def __init__(self, redis: Redis, *, limited: bool) -> None:
        """Unless `limited`, attempts are counted and no burst is found."""
        self._redis = redis
        self._script = Script.read(redis, __package__, "judge.lua")
        self._actions_max = rules.BURST_ACTIONS_MAX if limited else UNLIMITED
        # Without a limit no burst names its actions, so the windows are kept short.
        self._seen_max = rules.BURST_SEEN_MAX if limited else rules.BURST_ACTIONS_MAX

    async def count(self, attempts: Sequence[Attempt]) -> list[Counted]:
        """Counts the attempts in order; returns what each found. Raises WindowsUnavailable."""
        # One call; on a cluster one for each shard.
        parts = self._redis.together([_tag(attempt) for attempt in attempts])
        try:
            async with asyncio.timeout(COUNT_S):
                answers = await self._script.many(
                    [self._call([attempts[i] for i in part]) for part in parts]
                )
        except UNAVAILABLE as error:
            raise WindowsUnavailable from error
        counted = [NOTHING] * len(attempts)
        for part, found in zip(parts, answers, strict=True):
            for i, answer in zip(part, found, strict=True):
                counted[i] = _counted(answer)
        return counted

    def _call(self, attempts: Sequence[Attempt]) -> Call:
        keys: list[str] = []
        for attempt in attempts:
            tag = _tag(attempt)
            keys += (f"{tag}:judged:{attempt.user_id}", f"{tag}:verdict:{attempt.action_id}")
        return keys, (
            clock.offset_ms(),
            rules.BURST_WINDOW_MS,
            VERDICT_KEPT_MS,
            self._actions_max,
            self._seen_max,
            "".join("1" if attempt.accepted else "0" for attempt in attempts),
        )


def _tag(attempt: Attempt) -> str:
    """The hash tag of the player's shard, with which both keys of the attempt begin."""
    return f"{{f:{zlib.crc32(attempt.user_id.encode()) % SHARDS:02}}}"


def _counted(answer: int | bytes) -> Counted:
    if isinstance(answer, int):
        return FIXED if answer else NOTHING
    at_ms, *named = msgspec.json.decode(answer, type=list[str])
    judged = zip(named[::2], named[1::2], strict=True)
    return Counted(Burst(tuple((action, int(at)) for action, at in judged), int(at_ms)))
