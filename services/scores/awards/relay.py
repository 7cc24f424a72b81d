"""The relay: repeats what follows a change of the ledger and was not acknowledged."""

from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from chassis import clock
from chassis.batching import BATCH_MAX
from services.scores.awards.publish import Publisher
from services.scores.awards.records import Receipt
from services.scores.awards.store import LedgerStore
from services.scores.boards.changes import Change
from services.scores.boards.events import LATE_S

relayed = Counter("scoreboard_awards_relayed_total", "Awards published by the relay")
outbox_age = Gauge(
    "scoreboard_outbox_age_seconds", "Age of the oldest award in the outbox; 0: none is late"
)


class Relay:
    """Works through the outbox; run by one replica at a time.

    Running twice does no harm either: boards take only what is newer, and subscribers of
    the event stream expect repeats.
    """

    def __init__(self, ledger: LedgerStore, publisher: Publisher, *, after_s: float) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._after_s = after_s

    async def work(self, fence: int) -> None:
        """One pass over all that is outstanding and older than `after_s`.

        Raises RedisError and DbUnavailable: the next pass goes on.
        """
        outstanding = await self._ledger.outstanding(after_s=self._after_s)
        now_ms = clock.now_ms()
        outbox_age.set(max((now_ms - o.at_ms for o in outstanding), default=0) / 1000)
        while outstanding:
            unpublished = [o for o in outstanding if not o.published]
            if late := [o.at_ms for o in unpublished if now_ms - o.at_ms > LATE_S * 1000]:
                # Before they are published: a reader that loses them has to look so far back.
                await self._ledger.note_late(min(late))
            if awards := [c for c in unpublished if c.kind == "award"]:
                await self._publish_awards(awards)
            if others := [c for c in unpublished if c.kind != "award"]:
                await self._publisher.place(others)
                await self._ledger.clear([c.seq for c in others])
            # Their receipts are written; only the settlement is outstanding.
            if published := [o for o in outstanding if o.published]:
                if not await self._publisher.settle(awarded=[c.event_id for c in published]):
                    return
                await self._ledger.clear([c.seq for c in published])
            if len(outstanding) < BATCH_MAX:
                return
            outstanding = await self._ledger.outstanding(after_s=self._after_s)

    async def _publish_awards(self, awards: Sequence[Change]) -> None:
        ranks = await self._publisher.place(awards)
        settled = await self._publisher.settle(awarded=[c.event_id for c in awards])
        # The receipts of awards whose own were lost: with the ranks the relay saw.
        receipts = [
            (c.seq, c.event_id, Receipt(rank=rank.new, old_rank=rank.old, held=c.hidden))
            for c, rank in zip(awards, ranks, strict=True)
        ]
        await self._ledger.acknowledge(receipts, settled=settled)
        relayed.inc(len(awards))
