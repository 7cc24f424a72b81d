"""The names of players, as auth knows them: asked in batches, remembered for a moment."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

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
        self._known: OrderedDict[str, tuple[int, Name]] = OrderedDict()  # with the time it ends
        self._batcher: Batcher[str, Name] = Batcher(self._ask, batch_max=batch_max, name="names")

    async def of(self, user_id: str, *, timeout_s: float) -> Name:
        """The player's name, at most a minute old. Raises PlayerNotFound, Unavailable."""
        known = self._known.get(user_id)
        if known and known[0] > clock.now_ms():
            return known[1]
        return await self._batcher.submit(user_id, timeout_s=timeout_s)

    async def _ask(self, user_ids: list[str], timeout_s: float) -> Sequence[Name | Failed]:
        reply = await self._auth.Names(NamesRequest(user_ids=user_ids), timeout=timeout_s)
        found = {a.user_id: Name(a.username, a.name_version) for a in reply.accounts}
        until_ms = clock.now_ms() + KNOWN_MS
        for user_id, name in found.items():
            self._known[user_id] = until_ms, name
            self._known.move_to_end(user_id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return [found.get(user_id) or PlayerNotFound() for user_id in user_ids]
