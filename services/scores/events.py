"""What others hear of awards: the stream `{events}:awards`."""

from collections.abc import Sequence

from redis.asyncio import Redis

from chassis import clock
from protos import events_pb2
from services.scores.boards import BOARDS, Ranks
from services.scores.store import Row

STREAM = "{events}:awards"
KEPT_MS = 24 * 3600 * 1000


class Events:
    """The writing end of the stream. Methods raise RedisError when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, rows: Sequence[Row], ranks: Sequence[Ranks]) -> None:
        """Appends one entry that tells of all these awards. Telling one twice does no harm."""
        batch = events_pb2.ScoreEvents(
            events=[_event(row, rank) for row, rank in zip(rows, ranks, strict=True)]
        )
        # The stream's ids follow Redis' clock, which ours may be ahead of.
        oldest = clock.now_ms() - clock.offset_ms() - KEPT_MS
        await self._redis.xadd(STREAM, {"batch": batch.SerializeToString()}, minid=str(oldest))


def _event(row: Row, ranks: Ranks) -> events_pb2.ScoreEvent:
    return events_pb2.ScoreEvent(
        kind=events_pb2.ScoreEvent.AWARD,
        event_id=row.action_id,
        seq=row.seq,
        user_id=row.user_id,
        username=row.username,
        version=row.version,
        action_type=row.action_type,
        points=row.points,
        old_score=row.old_score,
        new_score=row.new_score,
        old_rank=ranks.old,
        rank=ranks.new,
        at_ms=row.at_ms,
        hidden=row.hidden,
        boards=_BOARD_NAMES,
    )


_BOARD_NAMES = list(BOARDS)
