"""The reading calls: requests checked, read and rendered."""

import asyncio

from chassis.batching import bounded
from chassis.errors import Failed, FieldError, to_proto
from chassis.ids import is_uuid
from protos import scores_pb2
from services.scores.boards.ranking import After, NotRanked, Page
from services.scores.boards.registry import Registry
from services.scores.boards.rules import SCORE_MAX, Period, ValidationFailed
from services.scores.reads import answers
from services.scores.reads.board_reads import BoardReads, or_failed
from services.scores.reads.cursors import CursorInvalid, Cursors
from services.scores.reads.live import TOP_MAX
from services.scores.reads.store import HistoryStore

RADIUS_MAX = 50
RANKS_MAX = 200
HISTORY_MAX = 100
_LEDGER_FIELDS = tuple(scores_pb2.LedgerRow.DESCRIPTOR.fields_by_name)


class ReadCalls:
    """See protos/scores.proto."""

    def __init__(
        self, registry: Registry, reads: BoardReads, ledger: HistoryStore, cursors: Cursors
    ) -> None:
        self._registry = registry
        self._reads = reads
        self._ledger = ledger
        self._cursors = cursors

    async def boards(self) -> scores_pb2.BoardsReply:
        """The boards that are shown, those made before this call among them."""
        await self._registry.catch_up()
        return scores_pb2.BoardsReply(
            boards=[answers.board(known) for known in self._registry.listed()]
        )

    async def top(self, request: scores_pb2.TopRequest) -> scores_pb2.TopReply:
        """Pages of boards; one bad item never fails its neighbours."""
        bounded(request.items)
        results = [self._cached_top(item) for item in request.items]
        missing = [i for i, result in enumerate(results) if result is None]
        if missing:
            found = await asyncio.gather(*(self._top(request.items[i]) for i in missing))
            for i, result in zip(missing, found, strict=True):
                results[i] = result
        return scores_pb2.TopReply(results=filter(None, results))

    async def around(self, request: scores_pb2.AroundRequest) -> scores_pb2.AroundReply:
        """Places of players; one bad item never fails its neighbours."""
        bounded(request.items)
        queries = await asyncio.gather(*(or_failed(self._placed(item)) for item in request.items))
        places = iter(await self._reads.around([q for q in queries if not isinstance(q, Failed)]))
        return scores_pb2.AroundReply(
            results=[
                scores_pb2.AroundResult(failure=to_proto(q))
                if isinstance(q, Failed)
                else answers.around(q[0], q[1], next(places))
                for q in queries
            ]
        )

    async def ranks(self, request: scores_pb2.RanksRequest) -> scores_pb2.RanksReply:
        """The rows of up to 200 players. Raises Failed."""
        bounded(request.user_ids, most=RANKS_MAX)
        period = await self._reads.period(
            request.board, request.period, anonymous=request.anonymous
        )
        found = await self._reads.ranks(period, [u for u in request.user_ids if is_uuid(u)])
        return scores_pb2.RanksReply(
            entries=answers.entries(found.entries),
            degraded=found.degraded,
            period=period.id,
            board_version=found.board_version,
        )

    async def would_be(self, request: scores_pb2.WouldBeRequest) -> scores_pb2.WouldBeReply:
        """The ranks that scores would have; one bad item never fails its neighbours."""
        bounded(request.items)
        queries = await asyncio.gather(*(or_failed(self._scored(item)) for item in request.items))
        found = iter(await self._reads.would_be([q for q in queries if not isinstance(q, Failed)]))
        return scores_pb2.WouldBeReply(
            results=[
                scores_pb2.WouldBeResult(failure=to_proto(q))
                if isinstance(q, Failed)
                else answers.would_be(q[0], next(found))
                for q in queries
            ]
        )

    async def history(self, request: scores_pb2.HistoryRequest) -> scores_pb2.HistoryReply:
        """A player's own ledger, newest first, from behind the cursor on, which serves only that
        player. Raises CursorInvalid and DbUnavailable."""
        limit = max(1, min(request.limit, HISTORY_MAX))
        before_seq = None
        if request.cursor:
            user_id, before_seq = self._cursors.open("history", request.cursor, tuple[str, int])
            if user_id != request.user_id:
                raise CursorInvalid
        # One row more than is shown shows whether there is a next page.
        rows = await self._ledger.history(request.user_id, before_seq=before_seq, limit=limit + 1)
        cursor = ""
        if len(rows) > limit:
            cursor = self._cursors.seal("history", request.user_id, rows[limit - 1]["seq"])
        shown = [
            scores_pb2.LedgerRow(**{name: row[name] for name in _LEDGER_FIELDS})
            for row in rows[:limit]
        ]
        return scores_pb2.HistoryReply(rows=shown, next_cursor=cursor)

    def _cached_top(self, item: scores_pb2.TopItem) -> scores_pb2.TopResult | None:
        """The answer, where it is cached: most reads end here."""
        if item.fresh or item.cursor or item.period not in ("", "current"):
            return None
        try:
            _within("limit", item.limit, 1, TOP_MAX)
            cached = self._reads.cached(
                item.board, anonymous=item.anonymous, version_min=item.version_min
            )
        except Failed as failed:
            return scores_pb2.TopResult(failure=to_proto(failed))
        if cached is None:
            return None
        result: scores_pb2.TopResult | None = cached.rendered.get(item.limit)
        if result is None:
            result = self._paged(cached.period, cached.page, item.limit)
            cached.rendered[item.limit] = result
        return result

    async def _top(self, item: scores_pb2.TopItem) -> scores_pb2.TopResult:
        try:
            _within("limit", item.limit, 1, TOP_MAX)
            period = await self._reads.period(item.board, item.period, anonymous=item.anonymous)
            if item.cursor:
                period, after = await self._opened(item, period)
                page = await self._reads.page(period, item.limit, after)
            else:
                page = await self._reads.top(
                    period, item.limit, version_min=item.version_min, fresh=item.fresh
                )
        except Failed as failed:
            return scores_pb2.TopResult(failure=to_proto(failed))
        return self._paged(period, page, item.limit)

    def _paged(self, period: Period, page: Page, limit: int) -> scores_pb2.TopResult:
        page = page.cut(limit)
        cursor = ""
        if page.more and page.entries:
            last = page.entries[-1]
            cursor = self._cursors.seal(
                "board", period.board.name, period.start_ms, last.score, last.seq, last.user_id
            )
        return scores_pb2.TopResult(top=answers.top(period, page, cursor))

    async def _opened(self, item: scores_pb2.TopItem, period: Period) -> tuple[Period, After]:
        """Where the page begins. A list that was begun in a period is read to its end there."""
        name, start_ms, score, seq, user_id = self._cursors.open(
            "board", item.cursor, tuple[str, int, int, int, str]
        )
        if name != period.board.name:
            raise CursorInvalid
        if start_ms != period.start_ms:
            if item.period not in ("", "current", "previous"):
                raise CursorInvalid
            known = self._reads.known(name, anonymous=item.anonymous)
            period = await self._reads.starting(known, start_ms)
        return period, After(score, seq, user_id)

    async def _placed(self, item: scores_pb2.AroundItem) -> tuple[Period, str, int]:
        _within("radius", item.radius, 0, RADIUS_MAX)
        period = await self._reads.period(item.board, item.period, anonymous=item.anonymous)
        if not is_uuid(item.user_id):
            raise NotRanked
        return period, item.user_id, item.radius

    async def _scored(self, item: scores_pb2.WouldBeItem) -> tuple[Period, int]:
        _within("score", item.score, -SCORE_MAX, SCORE_MAX)
        period = await self._reads.period(item.board, item.period, anonymous=item.anonymous)
        return period, item.score


def _within(field: str, number: int, low: int, high: int) -> None:
    """Raises ValidationFailed."""
    if not low <= number <= high:
        error = FieldError(field, "OUT_OF_RANGE", f"must be from {low} to {high}")
        raise ValidationFailed(errors=[error])
