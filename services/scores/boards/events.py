"""The event stream `{events}:awards`: what changed, for every other unit."""

import uuid
from collections.abc import Collection, Sequence

from chassis.redis import Redis
from chassis.redis.stream import Bound, StreamWriter
from protos import events_pb2
from protos.streams import AWARDS
from services.scores.boards.changes import Change, Written
from services.scores.boards.places import Ranks
from services.scores.boards.registry import Registry

# Publications later than this after the change are recorded, and for how long: a reader that lost
# entries since then begins further back.
LATE_S = 300.0
LATE_KEPT_DAYS = 30


class Events:
    """The writing end of the stream. Methods raise RedisError."""

    def __init__(self, redis: Redis, registry: Registry, bound: Bound) -> None:
        self._stream = StreamWriter(redis, AWARDS, bound)
        self._registry = registry

    async def publish(self, changes: Sequence[Change | Written], ranks: Sequence[Ranks]) -> None:
        """Appends one entry with all these changes. A repeat does no harm."""
        touched = self._boards({change.action_type for change in changes})
        batch = events_pb2.ScoreEvents(boards=touched)
        for change, rank in zip(changes, ranks, strict=True):
            _add(batch, change, rank)
        await self._stream.append(batch.SerializeToString())

    async def close(self, board: str, period: str, *, at_ms: int) -> None:
        """Publishes that the period of the board is closed, each time by the same event."""
        event = events_pb2.ScoreEvent(
            kind=events_pb2.ScoreEvent.PERIOD_CLOSED,
            event_id=str(uuid.uuid5(_CLOSED, f"{board}/{period}")),
            period=period,
            at_ms=at_ms,
        )
        batch = events_pb2.ScoreEvents(events=[event], boards=[board])
        await self._stream.append(batch.SerializeToString())

    def _boards(self, action_types: Collection[str]) -> list[str]:
        """The boards that are touched; all of them by what has no action type."""
        return [
            known.board.name
            for known in self._registry.all()  # one may be listed by the time this is read
            if any(not name or known.board.counts(name) for name in action_types)
        ]


def _add(batch: events_pb2.ScoreEvents, change: Change | Written, ranks: Ranks) -> None:
    if isinstance(change, Written):
        kind, event_id, origin_id = "award", change.action_id, None
    else:
        kind, event_id, origin_id = change.kind, change.event_id, change.origin_id
    batch.events.add(
        kind=kind.upper(),
        event_id=event_id,
        origin_id=origin_id,
        seq=change.seq,
        user_id=change.user_id,
        username=change.username,
        version=change.version,
        action_type=change.action_type,
        points=change.points,
        old_score=change.old_score,
        new_score=change.new_score,
        old_rank=ranks.old,
        rank=ranks.new,
        at_ms=change.at_ms,
        hidden=change.hidden,
    )


# The ids of closings are made of it; a UUIDv4.
_CLOSED = uuid.UUID("5c0a3a0b-6f0e-4f0b-9d4c-0d3f6c9a1e52")
