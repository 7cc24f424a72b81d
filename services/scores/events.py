"""What others hear of awards: the stream `{events}:awards`."""

from collections.abc import Sequence

from chassis import clock
from chassis.redis import Redis
from protos import events_pb2
from services.scores.boards import BOARDS, Ranks
from services.scores.store.ledger import Change, Row

STREAM = "{events}:awards"
KEPT_MS = 24 * 3600 * 1000


class Events:
    """The writing end of the stream. Methods raise RedisError when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, changes: Sequence[Change], ranks: Sequence[Ranks]) -> None:
        """Appends one entry that tells of all these changes. Telling one twice does no harm."""
        batch = events_pb2.ScoreEvents(
            events=[_event(change, rank) for change, rank in zip(changes, ranks, strict=True)]
        )
        # The stream's ids follow Redis' clock, which ours may be ahead of.
        oldest = clock.now_ms() - clock.offset_ms() - KEPT_MS
        await self._redis.xadd(STREAM, {"batch": batch.SerializeToString()}, minid=str(oldest))


def award_change(row: Row) -> Change:
    """What is told of an award."""
    return Change(
        kind="award",
        event_id=row.action_id,
        origin_id=None,
        user_id=row.user_id,
        username=row.username,
        version=row.version,
        seq=row.seq,
        action_type=row.action_type,
        points=row.points,
        old_score=row.old_score,
        new_score=row.new_score,
        at_ms=row.at_ms,
        hidden=row.hidden,
    )


def _event(change: Change, ranks: Ranks) -> events_pb2.ScoreEvent:
    return events_pb2.ScoreEvent(
        kind=change.kind.upper(),
        event_id=change.event_id,
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
        origin_id=change.origin_id,
        boards=_BOARD_NAMES,
    )


_BOARD_NAMES = list(BOARDS)
