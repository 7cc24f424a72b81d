"""The relay: does again what followed an award and was not acknowledged."""

from prometheus_client import Counter, Gauge

from chassis.batching import BATCH_MAX
from services.scores.awards import UNRANKED, Awards
from services.scores.boards import Ranks
from services.scores.store import Receipt, Row, ScoreStore

relayed = Counter("scoreboard_awards_relayed_total", "Awards told again by the relay")
outbox_age = Gauge("scoreboard_outbox_age_seconds", "Age of the oldest award in the outbox")


class Relay:
    """Works through the outbox; run by one replica at a time.

    Running twice does no harm either: boards take only what is newer, and readers of
    events expect repeats.
    """

    def __init__(self, store: ScoreStore, awards: Awards, *, after_s: float) -> None:
        self._store = store
        self._awards = awards
        self._after_s = after_s

    async def work(self, number: int) -> None:
        """One pass over all that is outstanding and older than `after_s`.

        Raises what the stores raise: the next pass goes on.
        """
        outbox_age.set(await self._store.outbox_age_s())
        while True:
            outstanding = await self._store.outstanding(after_s=self._after_s)
            await self._pass([row for row, published in outstanding if not published])
            told = [row for row, published in outstanding if published]
            if told and await self._awards.settle([r.action_id for r in told], awarded=True):
                # Their receipts are written; only the outbox has to hear of the settlement.
                receipts = [_receipt(row, UNRANKED) for row in told]
                await self._store.acknowledge(told, receipts, settled=True)
            elif told:
                return
            if len(outstanding) < BATCH_MAX:
                return

    async def _pass(self, rows: list[Row]) -> None:
        if not rows:
            return
        ranks = await self._awards.tell(rows)
        settled = await self._awards.settle([row.action_id for row in rows], awarded=True)
        receipts = [_receipt(row, rank) for row, rank in zip(rows, ranks, strict=True)]
        await self._store.acknowledge(rows, receipts, settled=settled)
        relayed.inc(len(rows))


def _receipt(row: Row, ranks: Ranks) -> Receipt:
    """The receipt of an award whose own was lost: with the ranks the relay saw."""
    return Receipt(ranks.new, ranks.old, (), row.hidden)
