"""The ledger as events, page by page: for a reader that lost entries of the stream.

Why every lost event is in it, and why its position is a time and not a sequence:
docs/decisions/0024-bounded-streams.md.
"""

import re

from chassis import clock
from chassis.errors import FieldError
from protos import events_pb2, scores_pb2
from services.scores.boards.rules import ValidationFailed
from services.scores.reads.store import ChangesStore

CHANGES_MAX = 1000
_CURSOR = re.compile(r"([0-9]{1,15})-([0-9]{1,18})")


class Changes:
    """See protos/scores.proto."""

    def __init__(self, store: ChangesStore) -> None:
        self._store = store

    async def changes(self, request: scores_pb2.ChangesRequest) -> scores_pb2.ChangesReply:
        """A page, oldest first. Raises ValidationFailed and DbUnavailable."""
        if not 1 <= request.limit <= CHANGES_MAX:
            raise _invalid("limit", "OUT_OF_RANGE", f"must be from 1 to {CHANGES_MAX}")
        if request.since_ms < 0:
            raise _invalid("since_ms", "OUT_OF_RANGE", "must be 0 or more")
        if not request.cursor:
            at_ms, seq = await self._store.begin(request.since_ms), -1
        elif match := _CURSOR.fullmatch(request.cursor):
            at_ms, seq = int(match[1]), int(match[2])
        else:
            raise _invalid("cursor", "INVALID", "must be one that this list was given")
        now_ms = clock.now_ms()
        rows = await self._store.after(at_ms, seq, limit=request.limit)
        reply = scores_pb2.ChangesReply(upto_ms=now_ms)
        for row in rows:
            kind = events_pb2.ScoreEvent.Kind.Value(row["kind"].upper())
            reply.events.add(**{**row, "kind": kind})
        if len(rows) == request.limit:
            last = rows[-1]
            reply.upto_ms = last["at_ms"]
            reply.next_cursor = f"{last['at_ms']}-{last['seq']}"
        return reply


def _invalid(field: str, code: str, detail: str) -> ValidationFailed:
    return ValidationFailed(errors=[FieldError(field, code, detail)])
