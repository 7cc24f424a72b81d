"""Who is flagged or banned, as fraud says: followed from its stream, caught up by version."""

from collections.abc import Awaitable, Callable, Sequence

from chassis import clock
from chassis.redis.feed import Feed
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction
from protos.streams import SANCTIONS


class Sanctions:
    """The sanction in force of every player who has one, up to date while `feed` is followed.

    `since(version)` returns at most 1000 sanctions newer than `version`, oldest first.
    """

    def __init__(self, since: Callable[[int], Awaitable[Sequence[Sanction]]]) -> None:
        self.feed = Feed(
            SANCTIONS,
            name="sanctions",
            since=since,
            read=lambda batch: SanctionEvents.FromString(batch).sanctions,
            learn=self._learn,
        )
        self._known: dict[str, Sanction] = {}
        self._listeners: list[Callable[[Sanction], None]] = []

    def flagged(self, user_id: str) -> bool:
        """Whether the player's limits are halved."""
        return self._in_force(user_id) == Sanction.FLAGGED

    def banned(self, user_id: str) -> bool:
        """Whether the player may do nothing at all."""
        return self._in_force(user_id) == Sanction.BANNED

    def listen(self, listener: Callable[[Sanction], None]) -> None:
        """Calls `listener` with every sanction that is newer than the player's known one."""
        self._listeners.append(listener)

    def _learn(self, sanction: Sanction) -> None:
        known = self._known.get(sanction.user_id)
        if known is not None and known.version >= sanction.version:
            return
        self._known[sanction.user_id] = sanction
        for listener in self._listeners:
            listener(sanction)

    def _in_force(self, user_id: str) -> int:
        sanction = self._known.get(user_id)
        if sanction is None or 0 < sanction.until_ms <= clock.now_ms():
            return Sanction.NONE
        return sanction.kind
