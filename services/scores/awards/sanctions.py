"""Hides sanctioned players from the boards and shows them again, by fraud's sanctions."""

import asyncio
from collections.abc import Iterable, Sequence

from chassis import clock
from chassis.batching import BATCH_MAX
from chassis.postgres import DbUnavailable
from chassis.process import together
from chassis.redis import Redis
from chassis.redis.feed import Feed
from chassis.telemetry import log
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction, SanctionsSinceRequest
from protos.fraud_pb2_grpc import FraudStub
from protos.streams import SANCTIONS
from services.scores.awards import records
from services.scores.awards.publish import Publisher
from services.scores.awards.store import LedgerStore, PlayersMissing

SINCE_S = 5.0
RETRY_S = 0.5  # while Postgres is unavailable
HIDING = frozenset({Sanction.QUARANTINED, Sanction.BANNED})


class Sanctions:
    """The newest sanction of every player, and which of them are not applied to the ledger.

    Every replica applies all of them: the ledger takes each once, by its version.
    """

    def __init__(self, fraud: FraudStub, ledger: LedgerStore, publisher: Publisher) -> None:
        self._fraud = fraud
        self._feed = Feed(
            SANCTIONS, name="sanctions", since=self._since, read=_read, learn=self._learn
        )
        self._ledger = ledger
        self._publisher = publisher
        self._known: dict[str, int] = {}  # the newest version, by player
        self._due: dict[str, Sanction] = {}  # not applied yet, by player
        self._ending: dict[str, Sanction] = {}  # hiding now, shown again by themselves
        self._changed = asyncio.Event()

    async def catch_up(self) -> None:
        """Fetches from fraud what is not known, and applies it. Raises Failed."""
        await self._feed.catch_up()
        await self._apply_due()

    async def follow(self, redis: Redis) -> None:
        """Stays up to date, forever."""
        await together(self._feed.follow(redis), self._apply_forever())

    async def show_ended(self, fence: int = 0) -> None:
        """Shows the players whose sanction has ended by itself. Raises DbUnavailable.

        One replica does it, though two do no harm.
        """
        now_ms = clock.now_ms()
        ended = [s for s in self._ending.values() if s.until_ms <= now_ms]
        await self._apply_from(self._ending, ended)

    async def _since(self, version: int) -> Sequence[Sanction]:
        request = SanctionsSinceRequest(version=version)
        return list((await self._fraud.SanctionsSince(request, timeout=SINCE_S)).sanctions)

    def _learn(self, sanction: Sanction) -> None:
        if self._known.get(sanction.user_id, 0) >= sanction.version:
            return
        self._known[sanction.user_id] = sanction.version
        self._due[sanction.user_id] = sanction
        self._ending.pop(sanction.user_id, None)
        if sanction.until_ms and sanction.kind in HIDING:
            self._ending[sanction.user_id] = sanction
        self._changed.set()

    async def _apply_forever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._apply_due()
            except DbUnavailable as error:
                log.warning("sanctions_not_applied", error=repr(error), players=len(self._due))
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _apply_due(self) -> None:
        while self._due:
            await self._apply_from(self._due, list(self._due.values()))

    async def _apply_from(
        self, waiting: dict[str, Sanction], sanctions: Sequence[Sanction]
    ) -> None:
        """Applies those of `waiting`, and takes them out where none newer came meanwhile."""
        for start in range(0, len(sanctions), BATCH_MAX):
            part = sanctions[start : start + BATCH_MAX]
            await self._apply(part)
            for sanction in part:
                if waiting.get(sanction.user_id) is sanction:
                    del waiting[sanction.user_id]

    async def _apply(self, sanctions: Iterable[Sanction]) -> None:
        now_ms = clock.now_ms()
        hidings = [_hiding(s, now_ms) for s in sanctions]
        try:
            changes = await self._ledger.hide(hidings)
        except PlayersMissing:
            # Sanctioned before the first award: a row without a name, which that award brings.
            await self._ledger.add_players([(h.user_id, "", 0) for h in hidings])
            changes = await self._ledger.hide(hidings)
        for change in changes:
            log.info(
                "player_hidden" if change.hidden else "player_shown",
                stream="security",
                user_id=change.user_id,
            )
        await self._publisher.publish_changes(changes)


def _hiding(sanction: Sanction, now_ms: int) -> records.Sanction:
    """A sanction's end by itself is newer than the sanction and older than the next one."""
    ended = 0 < sanction.until_ms <= now_ms
    return records.Sanction(
        user_id=sanction.user_id,
        hidden=sanction.kind in HIDING and not ended,
        version=2 * sanction.version + ended,
    )


def _read(batch: bytes) -> Iterable[Sanction]:
    return SanctionEvents.FromString(batch).sanctions
