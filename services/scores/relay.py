"""The relay: does again what followed a change of the ledger and was not acknowledged."""

from prometheus_client import Counter, Gauge

from chassis.batching import BATCH_MAX
from services.scores.awards import UNRANKED, Awards
from services.scores.boards import Boards, Ranks
from services.scores.events import Events
from services.scores.store.ledger import Change, Ledger, Receipt
from services.scores.store.standings import Standings

relayed = Counter("scoreboard_awards_relayed_total", "Awards told again by the relay")
outbox_age = Gauge("scoreboard_outbox_age_seconds", "Age of the oldest award in the outbox")


class Relay:
    """Works through the outbox; run by one replica at a time.

    Running twice does no harm either: boards take only what is newer, and readers of
    events expect repeats.
    """

    def __init__(
        self,
        ledger: Ledger,
        standings: Standings,
        boards: Boards,
        events: Events,
        awards: Awards,
        *,
        after_s: float,
    ) -> None:
        self._ledger = ledger
        self._standings = standings
        self._boards = boards
        self._events = events
        self._awards = awards
        self._after_s = after_s

    async def work(self, number: int) -> None:
        """One pass over all that is outstanding and older than `after_s`.

        Raises what the stores raise: the next pass goes on.
        """
        outbox_age.set(await self._ledger.outbox_age_s())
        while True:
            outstanding = await self._ledger.outstanding(after_s=self._after_s)
            untold = [o.change for o in outstanding if not o.published]
            await self._tell([c for c in untold if c.kind == "award"])
            await self._tell_others([c for c in untold if c.kind != "award"])
            told = [o.change for o in outstanding if o.published]
            if told:
                # Their receipts are written; only the outbox has to hear of the settlement.
                if not await self._awards.settle([c.event_id for c in told], awarded=True):
                    return
                await self._ledger.clear([c.seq for c in told])
            if len(outstanding) < BATCH_MAX:
                return

    async def _tell(self, awards: list[Change]) -> None:
        if not awards:
            return
        ranks = await self._place(awards)
        settled = await self._awards.settle([c.event_id for c in awards], awarded=True)
        # The receipts of awards whose own were lost: with the ranks the relay saw.
        receipts = [
            Receipt(rank.new, rank.old, (), change.hidden)
            for change, rank in zip(awards, ranks, strict=True)
        ]
        await self._ledger.acknowledge(awards, receipts, settled=settled)
        relayed.inc(len(awards))

    async def _tell_others(self, changes: list[Change]) -> None:
        if changes:
            await self._place(changes)
            await self._ledger.clear([c.seq for c in changes])

    async def _place(self, changes: list[Change]) -> list[Ranks]:
        """Puts the players where they stand by now, and publishes the changes."""
        placed = await self._boards.place(
            await self._standings.of(list({c.user_id for c in changes}))
        )
        ranks = [placed.get(c.user_id, UNRANKED) for c in changes]
        await self._events.publish(changes, ranks)
        return ranks
