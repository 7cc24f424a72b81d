"""A player's own ledger, newest first, a page at a time."""

from protos import scores_pb2
from services.scores.awards.records import Entry
from services.scores.awards.store import Ledger
from services.scores.reads.cursors import CursorInvalid, Cursors

PAGE_MAX = 100
_KIND = "history"


class History:
    """Reads pages; a cursor serves the player it was given to alone."""

    def __init__(self, ledger: Ledger, cursors: Cursors) -> None:
        self._ledger = ledger
        self._cursors = cursors

    async def page(self, request: scores_pb2.HistoryRequest) -> scores_pb2.HistoryReply:
        """The rows behind the cursor. Raises CursorInvalid and DbUnavailable."""
        limit = max(1, min(request.limit, PAGE_MAX))
        before = self._position(request)
        # One row more than is shown tells whether there is a next page.
        entries = await self._ledger.history(request.user_id, before_seq=before, limit=limit + 1)
        shown = entries[:limit]
        more = len(entries) > limit
        return scores_pb2.HistoryReply(
            rows=[_row(entry) for entry in shown],
            next_cursor=self._cursors.seal(_KIND, request.user_id, shown[-1].seq) if more else "",
        )

    def _position(self, request: scores_pb2.HistoryRequest) -> int | None:
        if not request.cursor:
            return None
        match self._cursors.open(_KIND, request.cursor):
            case (request.user_id, int() as seq):
                return seq
        raise CursorInvalid


def _row(entry: Entry) -> scores_pb2.LedgerRow:
    return scores_pb2.LedgerRow(
        action_id=entry.action_id,
        kind=entry.kind,
        origin_id=entry.origin_id,
        action_type=entry.action_type,
        points=entry.points,
        old_score=entry.old_score,
        new_score=entry.new_score,
        version=entry.version,
        at_ms=entry.at_ms,
    )
