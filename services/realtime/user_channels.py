"""User channels: where a player stands, and every award of a player, for that player."""

import cachetools

from chassis import clock
from chassis.batching import Batcher
from chassis.errors import Failed
from chassis.telemetry import log
from chassis.times import rfc3339
from protos import events_pb2
from services.realtime import frames
from services.realtime.channels import Channels, Publication, State
from services.realtime.frames import ScoreUpdated, Standing
from services.realtime.source import PERSONAL_BOARD, TIMEOUT_S, USERS_MAX, Source

PREFIX = "user:"
SEEN_MAX = 65_536  # events remembered, so that a repeat is not published
UNRANKED = Standing(score=None, rank=None, version=0)


class Personal:
    """User channels keep nothing: a state when one begins, then events as they come."""

    def __init__(self, source: Source, channels: Channels) -> None:
        self._channels = channels
        self._seen: cachetools.LRUCache[str, bool] = cachetools.LRUCache(SEEN_MAX)
        self._standings: Batcher[str, Standing] = Batcher(
            source.standings, batch_max=USERS_MAX, queue_max=65_536, name="standings"
        )

    async def state(self, channel: str) -> State:
        """A user channel's state; `stale`, and no one's, while scores cannot be asked."""
        try:
            user_id = channel.removeprefix(PREFIX)
            standing = await self._standings.submit(user_id, timeout_s=TIMEOUT_S)
        except Failed as failed:
            log.warning("standing_unknown", code=failed.code)
            return State(channel=channel, snapshot=UNRANKED.encoded(), stale=True)
        return State(channel=channel, snapshot=standing.encoded())

    def publish(self, event: events_pb2.ScoreEvent) -> None:
        """Publishes an award on its player's channel, once, if anybody here watches it."""
        channel = PREFIX + event.user_id
        if event.kind != events_pb2.ScoreEvent.AWARD or not self._channels.watched(channel):
            return
        if event.event_id in self._seen:
            return
        self._seen[event.event_id] = True
        at_ms = clock.now_ms()
        frame = frames.score_updated(_update(event), channel=channel, at_ms=at_ms)
        self._channels.publish(Publication(channel, frame, at_ms))


def _update(event: events_pb2.ScoreEvent) -> ScoreUpdated:
    return ScoreUpdated(
        user_id=event.user_id,
        username=event.username,
        action_id=event.event_id,
        board=PERSONAL_BOARD,
        old_score=event.old_score,
        new_score=event.new_score,
        score_increment=event.points,
        old_rank=event.old_rank if event.HasField("old_rank") else None,
        rank=event.rank if event.HasField("rank") else None,
        version=event.version,
        timestamp=rfc3339(event.at_ms),
    )
