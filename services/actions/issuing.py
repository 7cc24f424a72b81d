"""Issuing tokens: the limits of a request, and the short wait for an open token to be settled."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from chassis import clock
from chassis.errors import Failed
from chassis.ids import random_bytes, uuid7
from protos import actions_pb2 as pb
from services.actions.catalogue import ActionType, Catalogue
from services.actions.failures import (
    ActionTypeAuthoritative,
    ActionTypeUnknown,
    DailyCapReached,
    TooManyPending,
)
from services.actions.store import ActionsStore, Play
from services.actions.tokens import NONCE_BYTES, Sealed, Sealer

_DAY_MS = 24 * 3600 * 1000
_NO_CAP = 2**31 - 1


class Issued(NamedTuple):
    """An action that was issued, with what its player needs."""

    sealed: Sealed
    token: str
    signing_key: bytes
    bounds: ActionType


class Settlements:
    """Publishes, to requests that wait, which players' open tokens were settled."""

    def __init__(self) -> None:
        self._watches: set[_Watch] = set()

    def publish(self, user_ids: Iterable[str]) -> None:
        """A token of each of these players is open no longer."""
        settled = set(user_ids)
        for watch in self._watches:
            if freed := settled & watch.user_ids:
                watch.freed |= freed
                watch.event.set()

    @contextmanager
    def watch(self, user_ids: set[str]) -> "Iterator[_Watch]":
        """Watches these players within the context."""
        watch = _Watch(user_ids)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.remove(watch)


class Issuer:
    """Issues batches of tokens."""

    def __init__(
        self,
        store: ActionsStore,
        catalogue: Catalogue,
        sealer: Sealer,
        settlements: Settlements,
        *,
        open_max: int,
        settle_wait_s: float,
        capped: bool,
    ) -> None:
        """`open_max` is what types without a limit of their own share; not `capped`: daily
        caps are counted but refuse no request. `settle_wait_s` is for an award's settlement,
        which comes after its reply, to overtake the player's next request."""
        self._store = store
        self._catalogue = catalogue
        self._sealer = sealer
        self._settlements = settlements
        self._open_max = open_max
        self._settle_wait_s = settle_wait_s
        self._capped = capped

    async def issue(
        self, wanted: Sequence[pb.IssueItem], *, patient: bool
    ) -> list[Issued | Failed]:
        """A token or a failure for each, in order. Raises Unavailable.

        Where `patient`, players with too many open tokens wait a moment for one of them to
        be settled; nothing is locked meanwhile.
        """
        await self._catalogue.learn({one.action_type for one in wanted})
        results: dict[int, Issued | Failed] = {}  # by place
        pending = await self._try(wanted, range(len(wanted)), results)
        if pending and patient:
            await self._retry(wanted, pending, results)
        return [results[place] for place in range(len(wanted))]

    async def _retry(
        self,
        wanted: Sequence[pb.IssueItem],
        pending: list[int],
        results: dict[int, Issued | Failed],
    ) -> None:
        """Issues what fits of the places that are pending, as soon as it does, for a moment."""
        until = asyncio.get_running_loop().time() + self._settle_wait_s
        with self._settlements.watch({wanted[place].user_id for place in pending}) as watch:
            waiting = True
            while pending and waiting:
                freed = await watch.freed_until(until)
                # Another replica may have settled one unseen: all look once more.
                waiting = bool(freed)
                again = [p for p in pending if not freed or wanted[p].user_id in freed]
                left = await self._try(wanted, again, results)
                pending = sorted({*pending} - {*again} | {*left})

    async def _try(
        self,
        wanted: Sequence[pb.IssueItem],
        places: Iterable[int],
        results: dict[int, Issued | Failed],
    ) -> list[int]:
        """Issues what fits of these places; returns those with too many open tokens."""
        now_ms = clock.now_ms()
        tried: list[tuple[int, Issued]] = []
        for place in places:
            bounds = self._catalogue.get(wanted[place].action_type)
            if bounds is None:
                results[place] = ActionTypeUnknown()
            elif bounds.authoritative:
                results[place] = ActionTypeAuthoritative()
            else:
                tried.append((place, self._make(wanted[place].user_id, bounds, now_ms)))
        if not tried:
            return []
        plays = [self._play(issued) for _, issued in tried]
        outcomes = await self._store.issue(plays, kid=self._sealer.kid, now_ms=now_ms)
        left = []
        for (place, issued), play, outcome in zip(tried, plays, outcomes, strict=True):
            if outcome.outcome == "issued":
                results[place] = issued
            elif outcome.outcome == "capped":
                results[place] = _capped(play, now_ms)
            else:
                wait_s = _seconds(outcome.freed_at_ms - now_ms)
                results[place] = TooManyPending(open_max=play.pool_max, retry_after_s=wait_s)
                left.append(place)
        return left

    def _make(self, user_id: str, bounds: ActionType, now_ms: int) -> Issued:
        sealed = Sealed(
            uuid7(),
            user_id,
            bounds.action_type,
            bounds.worth,
            random_bytes(NONCE_BYTES),
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + bounds.token_ttl_s * 1000,
            completed=False,
            kid=self._sealer.kid,
        )
        key = self._sealer.signing_key(sealed)
        return Issued(sealed, self._sealer.seal(sealed), key, bounds)

    def _play(self, issued: Issued) -> Play:
        bounds, cap = issued.bounds, issued.bounds.daily_cap
        return Play(
            sealed=issued.sealed,
            token_sha256=hashlib.sha256(issued.token.encode()).digest(),
            pool=bounds.action_type if bounds.max_open else "",
            pool_max=bounds.max_open or self._open_max,
            daily_cap=cap if cap is None or self._capped else _NO_CAP,
        )


def _capped(play: Play, now_ms: int) -> DailyCapReached:
    to_midnight_ms = _DAY_MS - now_ms % _DAY_MS
    return DailyCapReached(
        cap=play.daily_cap or _NO_CAP,
        resets_at_ms=now_ms + to_midnight_ms,
        retry_after_s=_seconds(to_midnight_ms),
    )


def _seconds(wait_ms: int) -> int:
    """Rounded up."""
    return -(-wait_ms // 1000)


class _Watch:
    def __init__(self, user_ids: set[str]) -> None:
        self.user_ids = user_ids
        self.freed: set[str] = set()
        self.event = asyncio.Event()

    async def freed_until(self, until: float) -> set[str]:
        """The players published since the last call, as soon as there is one; none at `until`."""
        try:
            async with asyncio.timeout_at(until):
                await self.event.wait()
        except TimeoutError:
            return set()
        freed, self.freed = self.freed, set()
        self.event.clear()
        return freed
