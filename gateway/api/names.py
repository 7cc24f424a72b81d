"""The names of players, from auth: fetched in batches, cached for a minute."""

from collections.abc import Sequence
from dataclasses import dataclass

import cachetools

from chassis import clock
from chassis.batching import Batcher
from chassis.errors import Failed, Missing
from protos.auth_pb2 import NamesRequest
from protos.auth_pb2_grpc import AuthStub

KNOWN_MS = 60_000
KNOWN_MAX = 10_000


class PlayerNotFound(Missing):
    """There is no such player."""


@dataclass(frozen=True, slots=True)
class Name:
    """A player's name, and the version it was set by."""

    username: str
    version: int


class Names:
    """The names of players, by id."""

    def __init__(self, auth: AuthStub, *, batch_max: int) -> None:
        self._auth = auth
        self._known: cachetools.TTLCache[str, Name] = cachetools.TTLCache(
            KNOWN_MAX, KNOWN_MS, timer=clock.now_ms
        )
        self._batcher: Batcher[str, Name] = Batcher(self._fetch, batch_max=batch_max, name="names")

    async def of(self, user_id: str, *, timeout_s: float) -> Name:
        """The player's name, at most a minute old. Raises PlayerNotFound, Unavailable."""
        known = self._known.get(user_id)
        if known:
            return known
        return await self._batcher.submit(user_id, timeout_s=timeout_s)

    async def _fetch(self, user_ids: list[str], timeout_s: float) -> Sequence[Name | Failed]:
        reply = await self._auth.Names(NamesRequest(user_ids=user_ids), timeout=timeout_s)
        found = {a.user_id: Name(a.username, a.name_version) for a in reply.accounts}
        self._known.update(found)
        return [found.get(user_id) or PlayerNotFound() for user_id in user_ids]
