"""A player's own ledger, newest first, a page at a time."""

from protos import scores_pb2
from services.scores.reads.cursors import CursorInvalid, Cursors
from services.scores.reads.store import HistoryStore

PAGE_MAX = 100
_KIND = "history"
_FIELDS = tuple(scores_pb2.LedgerRow.DESCRIPTOR.fields_by_name)


class History:
    """Reads pages; a cursor serves only the player it was given to."""

    def __init__(self, store: HistoryStore, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def page(self, request: scores_pb2.HistoryRequest) -> scores_pb2.HistoryReply:
        """The rows behind the cursor. Raises CursorInvalid and DbUnavailable."""
        limit = max(1, min(request.limit, PAGE_MAX))
        before = self._position(request)
        # One row more than is shown shows whether there is a next page.
        rows = await self._store.history(request.user_id, before_seq=before, limit=limit + 1)
        shown = rows[:limit]
        more = len(rows) > limit
        return scores_pb2.HistoryReply(
            rows=[scores_pb2.LedgerRow(**{n: row[n] for n in _FIELDS}) for row in shown],
            next_cursor=self._cursors.seal(_KIND, request.user_id, shown[-1]["seq"])
            if more
            else "",
        )

    def _position(self, request: scores_pb2.HistoryRequest) -> int | None:
        if not request.cursor:
            return None
        match self._cursors.open(_KIND, request.cursor):
            case (request.user_id, int() as seq):
                return seq
        raise CursorInvalid
