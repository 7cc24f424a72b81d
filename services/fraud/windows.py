"""The short windows in Redis: what each player did in the last seconds. They may be lost."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from redis.exceptions import RedisError

from chassis import clock
from chassis.errors import Unavailable
from chassis.redis import AWAY, Redis, Script
from services.fraud import rules
from services.fraud.rules import Burst

VERDICT_KEPT_MS = 600_000  # an action's token does not live longer
COUNT_WITHOUT_END = 2**53 - 1
SHARDS = 64


class WindowsAway(Unavailable):
    """Attempts cannot be judged at the moment."""


@dataclass(slots=True)
class Attempt:
    """An attempt to redeem an action."""

    attempt_id: str
    action_id: str
    user_id: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """What the windows say of an attempt: too many at once, or fixed as allowed earlier."""

    burst: Burst | None = None
    fixed: bool = False


_NOTHING = Counted()
_FIXED = Counted(fixed=True)


class Windows:
    """Counts attempts and fixes the verdicts of accepted ones for 10 minutes."""

    def __init__(self, redis: Redis, *, limited: bool) -> None:
        """Unless `limited`, everything is counted and nothing is too much."""
        self._script = Script.read(redis, __package__, "judge.lua")
        self._most = rules.BURST_ACTIONS_MAX if limited else COUNT_WITHOUT_END

    async def count(self, attempts: Sequence[Attempt]) -> list[Counted]:
        """What is found, per attempt in order. Raises WindowsAway."""
        # One call, since one Redis holds all shards. Each key carries its player's shard
        # as its hash tag: on a cluster a batch is split by it into one pipeline.
        keys: list[str] = []
        for attempt in attempts:
            user = attempt.user_id
            shard = zlib.crc32(user.encode()) % SHARDS
            keys.append(f"{{f:{shard:02}}}:judged:{user}")
            keys.append(f"{{f:{shard:02}}}:verdict:{attempt.action_id}")
        arguments = (
            clock.offset_ms(),
            rules.BURST_WINDOW_MS,
            VERDICT_KEPT_MS,
            self._most,
            rules.BURST_SEEN_MAX,
            "".join("1" if attempt.accepted else "0" for attempt in attempts),
        )
        try:
            answers = await self._script(keys, arguments)
        except (RedisError, *AWAY) as error:
            raise WindowsAway from error
        return [_counted(answer) for answer in answers]


def _counted(answer: int | bytes) -> Counted:
    if isinstance(answer, int):
        return _FIXED if answer else _NOTHING
    at_ms, *named = msgspec.json.decode(answer, type=list[str])
    judged = zip(named[::2], named[1::2], strict=True)
    return Counted(Burst(tuple((action, int(at)) for action, at in judged), int(at_ms)))
