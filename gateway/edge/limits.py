"""How often a caller may call: every limit of a request in one call, a batch of them in one script.

While Redis is unavailable a bucket in this process takes over with its share of each limit, so that
there is never a window without one, however many gateways there are.
"""

import asyncio
import contextlib
import itertools
import math
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, NamedTuple

import cachetools
import msgspec
import prometheus_client

from chassis import clock
from chassis.batching import Batcher
from chassis.errors import Failed, TooMany
from chassis.redis import UNAVAILABLE, Call, Redis, Script
from chassis.settings import Between, Group
from chassis.telemetry import log
from gateway.edge.addresses import prefix
from gateway.edge.peers import Peers

CALL_S = 1.0  # A Redis that is slower counts as unavailable.
TAKE_S = 3.0  # for a request's flight, and the one before it
PROBE_S = 0.5  # between two looks whether Redis is back
LOCAL_KEYS_MAX = 50_000
# What requests wait for each other under load. They stay together from here to the stores,
# each call of which costs the less the more of them there are.
LINGER_S = 0.005

refused = prometheus_client.Counter(
    "limits_refused_total", "Requests and sockets beyond a limit of their caller", ["limit"]
)

_WINDOWS = {"minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, eq=False)
class Policy:
    """A named limit; 0 where a window has none. The minute is exact, hour and day are
    counted in 60 sub-windows each."""

    name: str
    per_minute: int
    per_hour: int = 0
    per_day: int = 0

    @cached_property
    def limits(self) -> tuple[int, int, int]:
        return self.per_minute, self.per_hour, self.per_day

    @cached_property
    def windows(self) -> tuple[str, ...]:
        """The windows' names in the headers."""
        return tuple(
            self.name if window == "minute" else f"{self.name}-{window}" for window in _WINDOWS
        )

    @cached_property
    def header(self) -> str:
        """The value of RateLimit-Policy."""
        windows = zip(self.windows, self.limits, _WINDOWS.values(), strict=True)
        return ", ".join(
            f'"{name}";q={limit};w={long_s}' for name, limit, long_s in windows if limit
        )

    @cached_property
    def half(self) -> "Policy":
        """The policy of a flagged player."""
        return Policy(self.name, *(math.ceil(limit / 2) for limit in self.limits))


# Each of a minute is a time that Redis keeps.
PerMinute = Annotated[int, Between(1, 10_000)]
Longer = Annotated[int, Between(0, 10_000_000)]


@dataclass(frozen=True, kw_only=True)
class RequestLimits(Group):
    """Settings of the gateway, read from `LIMIT_…`, and the policies made of them."""

    requests_per_minute: PerMinute = 100  # of an address (IPv6: its /64), almost all calls
    requests_per_hour: Longer = 0  # the same; 0: no limit of an hour
    requests_per_day: Longer = 0  # the same; 0: no limit of a day
    actions_per_minute: PerMinute = 10  # of a player, requests for tokens
    actions_per_hour: Longer = 100  # the same; 0: no limit of an hour
    actions_per_day: Longer = 500  # the same; 0: no limit of a day
    scores_per_minute: PerMinute = 10  # of a player, redemptions
    scores_per_hour: Longer = 0  # the same; 0: no limit of an hour
    scores_per_day: Longer = 0  # the same; 0: no limit of a day

    @cached_property
    def requests(self) -> Policy:
        return Policy(
            "requests", self.requests_per_minute, self.requests_per_hour, self.requests_per_day
        )

    @cached_property
    def actions(self) -> Policy:
        return Policy(
            "actions", self.actions_per_minute, self.actions_per_hour, self.actions_per_day
        )

    @cached_property
    def scores(self) -> Policy:
        return Policy("scores", self.scores_per_minute, self.scores_per_hour, self.scores_per_day)


# A counter that appears with its first event has no rate for it.
for _limit in ("requests", "actions", "scores", "sockets_per_user", "sockets_per_address"):
    refused.labels(_limit)


@dataclass(frozen=True, eq=False)
class Check:
    """A policy for one subject: a user's id, or an address prefix in hexadecimal digits.

    Nothing else may become a part of a key.
    """

    policy: Policy
    subject: str

    @cached_property
    def key(self) -> str:
        # The tag keeps a subject's keys on one node of a cluster.
        tag = zlib.crc32(self.subject.encode()) & 63
        return f"{{l:{tag:02d}}}:{self.policy.name}:{self.subject}"


@lru_cache(maxsize=8192)
def checks(
    address: str, requests: Policy, policy: Policy | None, user_id: str
) -> tuple[Check, ...]:
    """What a request is counted against: `requests` of its address, `policy` where a user is.

    Kept, since the same callers come again.
    """
    each = Check(requests, prefix(address))
    return (each, Check(policy, user_id)) if policy and user_id else (each,)


class Judged(NamedTuple):
    """What a check found of its policy's tightest window."""

    window: int  # 1 minute, 2 hour, 3 day
    left: float  # requests it would still take
    until_ms: float  # for its oldest request to leave it
    wait_ms: float  # more than 0: refused, and that long


class Standing(NamedTuple):
    """Where a caller stands with a policy."""

    policy: Policy
    judged: Judged

    @property
    def wait_s(self) -> int:
        """More than 0: refused, and that long."""
        return math.ceil(self.judged.wait_ms / 1000)

    def headers(self) -> dict[str, str]:
        """RateLimit and RateLimit-Policy, as draft-ietf-httpapi-ratelimit-headers names them."""
        window, left = self.policy.windows[self.judged.window - 1], int(self.judged.left)
        seconds = self.wait_s or max(1, math.ceil(self.judged.until_ms / 1000))
        return {
            "RateLimit-Policy": self.policy.header,
            "RateLimit": f'"{window}";r={left};t={seconds}',
        }


class RateLimited(TooMany):
    """Too many requests; see Retry-After."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(retry_after_s=standing.wait_s)
        self.standing = standing


class Limiter:
    """Takes requests from their limits; `disabled` counts but refuses nothing.

    `peers` share the limits among them while Redis is unavailable.
    """

    def __init__(self, redis: Redis, peers: Peers, *, disabled: bool, batch_max: int = 256) -> None:
        self._script = Script.read(redis, __package__, "limits.lua")
        self._disabled = disabled
        self._batcher: Batcher[Sequence[Check], Sequence[Judged]] = Batcher(
            self._decide, batch_max=batch_max, name="limits", linger_s=LINGER_S
        )
        self._local = _Local(peers)
        self._redis = redis
        self._unavailable = asyncio.Event()

    async def take(self, checks: Sequence[Check]) -> Standing:
        """Counts a request against all `checks`, or against none if one of them refuses.

        Returns the standing with the last check. Raises RateLimited.
        """
        if self._unavailable.is_set():
            judged: Sequence[Judged] = self._local.take(checks)
        else:
            try:
                judged = await self._batcher.submit(checks, timeout_s=TAKE_S)
            except Failed:  # of any kind: there is no judgement
                judged = self._local.take(checks)
        waits_ms = [each.wait_ms for each in judged]
        if not self._disabled and max(waits_ms) > 0:
            refuses = waits_ms.index(max(waits_ms))
            policy = checks[refuses].policy
            refused.labels(policy.name).inc()
            raise RateLimited(Standing(policy, judged[refuses]))
        return Standing(checks[-1].policy, judged[-1])

    async def follow(self) -> None:
        """Looks whether an unavailable Redis is back, so that no request has to wait for it."""
        while True:
            await self._unavailable.wait()
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(*UNAVAILABLE):
                async with asyncio.timeout(CALL_S):
                    await self._redis.check("gateway")
                log.info("limits_available")
                self._unavailable.clear()

    async def _decide(
        self, batch: list[Sequence[Check]], timeout_s: float
    ) -> Sequence[Sequence[Judged] | Failed]:
        asked = [(at, check, check.key) for at, checks in enumerate(batch) for check in checks]
        # On a cluster one call for each tag: there one tag's limit may take a request that
        # another's refuses.
        parts = self._redis.together([key for _, _, key in asked])
        try:
            async with asyncio.timeout(CALL_S):
                calls = [self._call([asked[i] for i in part]) for part in parts]
                answers = await self._script.many(calls)
        except UNAVAILABLE as error:
            log.warning("limits_unavailable", error=repr(error))
            self._unavailable.set()
            return [self._local.take(checks) for checks in batch]
        found: dict[int, Judged] = {}
        for part, answer in zip(parts, answers, strict=True):
            found.update(zip(part, _FOUND.decode(answer), strict=True))
        judged = (found[i] for i in range(len(asked)))
        return [list(itertools.islice(judged, len(checks))) for checks in batch]

    def _call(self, asked: Sequence[tuple[int, Check, str]]) -> Call:
        """The script's keys and arguments for checks, each with its request's place and its key."""
        owners, checks, keys = zip(*asked, strict=True)
        limits = [check.policy.limits for check in checks]
        policies = list(dict.fromkeys(limits))
        return keys, [
            clock.offset_ms(),
            int(self._disabled),
            bytes(Counter(owners).values()),
            bytes([policies.index(each) + 1 for each in limits]),
            msgspec.msgpack.encode(policies),
        ]


_FOUND = msgspec.msgpack.Decoder(list[Judged])


class _Local:
    """The minute's limits in this process alone, while Redis is unavailable.

    A policy's share here is its limit divided by the gateways last counted, rounded up: N of them
    allow at most N - 1 requests more than the limit, and no limit becomes 0.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        # Of each key no more times than its limit: a refused request adds none.
        self._times_ms: cachetools.LRUCache[str, deque[int]] = cachetools.LRUCache(LOCAL_KEYS_MAX)

    def take(self, checks: Sequence[Check]) -> list[Judged]:
        now_ms = clock.now_ms()
        seen = [(check, self._minute(check.key, now_ms)) for check in checks]
        judged = [self._judge(check, times_ms, now_ms) for check, times_ms in seen]
        if not any(each.wait_ms for each in judged):
            for _, times_ms in seen:
                times_ms.append(now_ms)
        return judged

    def _minute(self, key: str, now_ms: int) -> deque[int]:
        times_ms = self._times_ms.setdefault(key, deque())  # no longer than the limit
        while times_ms and times_ms[0] <= now_ms - 60_000:
            times_ms.popleft()
        return times_ms

    def _judge(self, check: Check, times_ms: deque[int], now_ms: int) -> Judged:
        share = math.ceil(check.policy.per_minute / self._peers.count)
        left = share - len(times_ms)
        # The request that must leave the minute: not the oldest where the share became smaller.
        leaves_ms = times_ms[max(-left, 0)] if times_ms else now_ms
        until_ms = leaves_ms + 60_000 - now_ms
        return Judged(1, max(left - 1, 0), until_ms, 0 if left > 0 else until_ms)
