"""The names of players, in one hash in Redis: boards hold ids only."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from chassis.postgres import DbUnavailable
from chassis.redis import Redis, Script
from services.scores.boards import keyspace

Name = tuple[int, str]  # its version, and the name


class Names:
    """Every method raises RedisError when Redis is away.

    `names_of` answers the names that Redis does not have, by user id.
    """

    def __init__(
        self, redis: Redis, names_of: Callable[[Sequence[str]], Awaitable[dict[str, Name]]]
    ) -> None:
        self._redis = redis
        self._names_of = names_of
        self._keep = Script.read(redis, __package__, "name.lua")

    async def keep(self, names: Mapping[str, Name]) -> None:
        """Keeps those names, by id, that are newer; whoever remembers an older one is told."""
        if not names:
            return
        arguments: list[str | bytes] = [keyspace.INVALIDATE]
        for user, (version, name) in names.items():
            arguments += (keyspace.packed(user), version.to_bytes(8) + name.encode())
        await self._keep([keyspace.NAMES], arguments)

    async def of(self, users: Collection[bytes]) -> dict[bytes, str]:
        """The names of players, by packed id; who has none, or none that can be asked for, is
        left out."""
        wanted = list(dict.fromkeys(users))
        if not wanted:
            return {}
        found = await self._redis.hmget(keyspace.NAMES, wanted)
        names = {
            user: kept[8:].decode()
            for user, kept in zip(wanted, found, strict=True)
            if isinstance(kept, bytes)
        }
        if len(names) < len(wanted):
            lost = await self._lost([keyspace.unpacked(u) for u in wanted if u not in names])
            names |= {keyspace.packed(user): name for user, (_, name) in lost.items()}
        return names

    async def _lost(self, users: Sequence[str]) -> dict[str, Name]:
        try:
            names = await self._names_of(users)
        except DbUnavailable:
            return {}  # a board without some names is worth more than none
        await self.keep(names)
        return names
