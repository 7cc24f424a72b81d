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
        too_many = TooManyPending()  # one for all: a failure costs more than a token
        results: list[Issued | Failed] = [self._refusal(one) or too_many for one in wanted]
        pending = await self._try(wanted, range(len(wanted)), results)
        if not pending or not patient:
            return results
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
        return results

    def _refusal(self, wanted: pb.IssueItem) -> Failed | None:
        bounds = self._catalogue.get(wanted.action_type)
        if bounds is None:
            return ActionTypeUnknown()
        return ActionTypeAuthoritative() if bounds.authoritative else None

    async def _try(
        self, wanted: Sequence[pb.IssueItem], places: Iterable[int], results: list[Issued | Failed]
    ) -> list[int]:
        """Issues what fits of the places that are pending; returns those still pending."""
        now_ms = clock.now_ms()
        tried = [
            (place, self._make(wanted[place].user_id, bounds, now_ms))
            for place in places
            if isinstance(results[place], TooManyPending)
            and (bounds := self._catalogue.get(wanted[place].action_type))
        ]
        if not tried:
            return []
        outcomes = await self._store.issue(
            [self._play(issued) for _, issued in tried], kid=self._sealer.kid, now_ms=now_ms
        )
        left = []
        for (place, issued), outcome in zip(tried, outcomes, strict=True):
            if outcome == "issued":
                results[place] = issued
            elif outcome == "capped":
                to_midnight_ms = _DAY_MS - now_ms % _DAY_MS
                results[place] = DailyCapReached(retry_after_s=-(-to_midnight_ms // 1000))
            else:
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
