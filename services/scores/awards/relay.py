"""The relay: does again what followed a change of the ledger and was not acknowledged."""

from prometheus_client import Counter, Gauge

from chassis import clock
from chassis.batching import BATCH_MAX
from services.scores.awards.publish import Telling
from services.scores.awards.records import Receipt
from services.scores.awards.store import Ledger
from services.scores.boards.changes import Change

relayed = Counter("scoreboard_awards_relayed_total", "Awards told again by the relay")
outbox_age = Gauge(
    "scoreboard_outbox_age_seconds", "Age of the oldest award in the outbox; 0: none is late"
)


class Relay:
    """Works through the outbox; run by one replica at a time.

    Running twice does no harm either: boards take only what is newer, and readers of
    events expect repeats.
    """

    def __init__(self, ledger: Ledger, telling: Telling, *, after_s: float) -> None:
        self._ledger = ledger
        self._telling = telling
        self._after_s = after_s

    async def work(self, number: int) -> None:
        """One pass over all that is outstanding and older than `after_s`.

        Raises what the stores raise: the next pass goes on.
        """
        outstanding = await self._ledger.outstanding(after_s=self._after_s)
        now_ms = clock.now_ms()
        outbox_age.set(max((now_ms - o.change.at_ms for o in outstanding), default=0) / 1000)
        while outstanding:
            untold = [o.change for o in outstanding if not o.published]
            await self._tell([c for c in untold if c.kind == "award"])
            await self._tell_others([c for c in untold if c.kind != "award"])
            told = [o.change for o in outstanding if o.published]
            if told:
                # Their receipts are written; only the outbox has to hear of the settlement.
                if not await self._telling.settle([c.event_id for c in told], awarded=True):
                    return
                await self._ledger.clear([c.seq for c in told])
            if len(outstanding) < BATCH_MAX:
                return
            outstanding = await self._ledger.outstanding(after_s=self._after_s)

    async def _tell(self, awards: list[Change]) -> None:
        if not awards:
            return
        ranks = await self._telling.place(awards)
        settled = await self._telling.settle([c.event_id for c in awards], awarded=True)
        # The receipts of awards whose own were lost: with the ranks the relay saw.
        receipts = [
            Receipt(rank.new, rank.old, (), change.hidden)
            for change, rank in zip(awards, ranks, strict=True)
        ]
        await self._ledger.acknowledge(awards, receipts, settled=settled)
        relayed.inc(len(awards))

    async def _tell_others(self, changes: list[Change]) -> None:
        if changes:
            await self._telling.place(changes)
            await self._ledger.clear([c.seq for c in changes])
