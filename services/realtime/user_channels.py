"""User channels: the standing of a player, and every award of the player."""

import asyncio

import cachetools

from chassis import clock
from chassis.batching import Batcher
from chassis.errors import Failed
from chassis.telemetry import log
from protos import events_pb2
from protos.realtime_pb2 import ChannelState
from services.realtime.channels import Channels
from services.realtime.frames import UNRANKED, Delta, Publication, ScoreUpdated, Standing, encode
from services.realtime.source import TIMEOUT_S, USER_BOARD, USERS_MAX, Source

PREFIX = "user:"
SEEN_MAX = 65_536  # ids of events kept, so that a repeat is not published


class UserChannels:
    """They keep nothing: a state when a gateway begins to watch, then events as they come."""

    def __init__(self, source: Source, channels: Channels) -> None:
        self._channels = channels
        self._seen: cachetools.LRUCache[str, bool] = cachetools.LRUCache(SEEN_MAX)
        self._standings: Batcher[str, Standing] = Batcher(
            source.standings, batch_max=USERS_MAX, queue_max=65_536, name="standings"
        )

    async def state(self, channel: str) -> ChannelState:
        """A user channel's state; unranked and `stale` while scores is unavailable."""
        try:
            user_id = channel.removeprefix(PREFIX)
            standing = await self._standings.submit(user_id, timeout_s=TIMEOUT_S)
        except Failed as failed:
            log.warning("standing_unknown", code=failed.code)
            return ChannelState(channel=channel, snapshot=encode(UNRANKED), stale=True)
        return ChannelState(channel=channel, snapshot=encode(standing))

    async def refresh(self) -> None:
        """Sends every watcher the present state of its player: awards of it may be lost."""
        watched = self._channels.watchers(PREFIX)
        channels = list(watched)
        for start in range(0, len(channels), USERS_MAX):
            part = channels[start : start + USERS_MAX]
            tickets = [(watcher, watcher.hold(c)) for c in part for watcher in watched[c]]
            states = await asyncio.gather(*(self.state(channel) for channel in part))
            by_watcher = [state for state, c in zip(states, part, strict=True) for _ in watched[c]]
            for (watcher, ticket), state in zip(tickets, by_watcher, strict=True):
                watcher.release(ticket, state)

    def publish(self, event: events_pb2.ScoreEvent) -> None:
        """Publishes an award once on the channel of its player, if a gateway here watches it."""
        channel = PREFIX + event.user_id
        if event.kind != events_pb2.ScoreEvent.AWARD or not self._channels.watched(channel):
            return
        if event.event_id in self._seen:
            return
        self._seen[event.event_id] = True
        at_ms = clock.now_ms()
        frame = Delta(
            channel=channel, ts=clock.rfc3339(at_ms), event="score.updated", data=_update(event)
        )
        self._channels.publish(
            Publication(channel, encode(frame), at_ms, awarded_at_ms=event.at_ms)
        )


def _update(event: events_pb2.ScoreEvent) -> ScoreUpdated:
    return ScoreUpdated(
        user_id=event.user_id,
        username=event.username,
        action_id=event.event_id,
        board=USER_BOARD,
        old_score=event.old_score,
        new_score=event.new_score,
        score_increment=event.points,
        old_rank=event.old_rank if event.HasField("old_rank") else None,
        rank=event.rank if event.HasField("rank") else None,
        version=event.version,
        timestamp=clock.rfc3339(event.at_ms),
    )
