"""All Redis of realtime: the histories of board channels and the builders' leases.

live:{channels}:leaderboard:<board>   a stream, the channel's history; entry `<offset>-0` holds
                                      epoch, frame, snapshot (the window after it), at and
                                      awarded_at (Unix ms)
live:{channels}:…:meta                a hash: epoch, offset, and the fence of the last builder
live:lease:<board>                    a hash: holder, fence, until (Unix ms)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chassis.redis import Call, Redis, Script
from chassis.redis.lease import Leases
from chassis.redis.stream import Bound
from services.realtime.channels import HISTORY_MAX
from services.realtime.frames import Position, Publication

# Of each channel's history. One without a publication for so long begins again with a new epoch.
HISTORY = Bound(entries_max=HISTORY_MAX, bytes_max=2**22, kept_s=7 * 86400)
PUBLICATIONS_MAX = 256  # of each channel in one read

Outcome = Literal["published", "fenced", "moved"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A publication, the fence of its builder's lease, and the position that it continues."""

    publication: Publication
    fence: int
    after: Position


class LiveStore:
    """Every method raises what `chassis.redis.UNAVAILABLE` lists."""

    def __init__(self, redis: Redis, history: Bound = HISTORY) -> None:
        self._redis = redis
        self._history = history
        self._leases = Leases(redis)
        self._publish = Script.read(redis, __package__, "publish.lua")

    async def lease(self, boards: Sequence[str], *, holder: str, ttl_ms: int) -> list[int]:
        """Takes or renews the boards' leases for `ttl_ms` (0: releases them).

        Returns each board's fencing number, which rises with every new holder; 0 where
        another process holds it.
        """
        keys = [f"live:lease:{board}" for board in boards]
        return await self._leases.hold(keys, holder=holder, ttl_ms=ttl_ms)

    async def publish(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Appends each publication whose channel still stands where its draft continues it."""
        answers = await self._publish.many([self._call(draft) for draft in drafts])
        return [answer.decode() for answer in answers]

    def _call(self, draft: Draft) -> Call:
        publication, after = draft.publication, draft.after
        key, to = _key(publication.channel), publication.position
        times = (publication.at_ms, publication.awarded_at_ms)
        content = (publication.frame, publication.snapshot, *times)
        positions = (after.epoch, after.offset, to.epoch, to.offset)
        kept = self._history
        bound = (kept.entries_max, kept.bytes_max, round(kept.kept_s * 1000))
        return (key, f"{key}:meta"), (draft.fence, *positions, *content, *bound)

    async def stored(self, channel: str) -> tuple[Position, list[Publication]]:
        """Where a channel stands, and its whole history, oldest first."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(f"{_key(channel)}:meta", ["epoch", "offset"])
        pipe.xrange(_key(channel))
        meta, entries = await pipe.execute()
        return _position(meta), [_publication(channel, id_, fields) for id_, fields in entries]

    async def positions(self, channels: Sequence[str]) -> list[Position]:
        """Where each channel stands."""
        commands = [("HMGET", f"{_key(channel)}:meta", "epoch", "offset") for channel in channels]
        return [_position(meta) for meta in await self._redis.execute_many(commands)]

    async def follow(self, after: Mapping[str, int], *, wait_ms: int) -> list[Publication]:
        """The publications after each channel's offset; waits up to `wait_ms` for one."""
        keys = {_key(channel): channel for channel in after}
        ids = {key: f"{after[channel]}-0" for key, channel in keys.items()}
        answer: Any = await self._redis.xread(ids, count=PUBLICATIONS_MAX, block=wait_ms)  # type: ignore[arg-type]
        return [
            _publication(keys[key.decode()], id_, fields)
            for key, entries in answer
            for id_, fields in entries
        ]


def _key(channel: str) -> str:
    # One tag for all, since one read waits on all channels.
    return f"live:{{channels}}:{channel}"


def _position(meta: Sequence[bytes | None]) -> Position:
    epoch, offset = meta
    return Position((epoch or b"").decode(), int(offset or 0))


def _publication(channel: str, id_: bytes, fields: Mapping[bytes, bytes]) -> Publication:
    return Publication(
        channel=channel,
        frame=fields[b"frame"],
        at_ms=int(fields[b"at"]),
        position=Position(fields[b"epoch"].decode(), int(id_.partition(b"-")[0])),
        snapshot=fields[b"snapshot"],
        awarded_at_ms=int(fields.get(b"awarded_at", 0)),
    )
