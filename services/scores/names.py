"""The names of players, in one hash in Redis: boards hold ids only."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from chassis.postgres import DbUnavailable
from chassis.redis import Redis, Script
from services.scores import keyspace


class Names:
    """Every method raises RedisError when Redis is away.

    `names_of` answers the names that Redis does not have, by user id.
    """

    def __init__(
        self, redis: Redis, names_of: Callable[[Sequence[str]], Awaitable[dict[str, str]]]
    ) -> None:
        self._redis = redis
        self._names_of = names_of
        self._keep = Script.read(redis, __package__, "name.lua")

    async def keep(self, names: Mapping[str, str]) -> None:
        """Keeps those names, by id; whoever remembers an answer with an old one is told."""
        if names:
            await self._store(names, replace=True)

    async def of(self, users: Collection[bytes]) -> dict[bytes, str]:
        """The names of players, by packed id; who has none, or none that can be asked for, is
        left out."""
        wanted = list(dict.fromkeys(users))
        if not wanted:
            return {}
        found = await self._redis.hmget(keyspace.NAMES, wanted)
        names = {
            user: name.decode()
            for user, name in zip(wanted, found, strict=True)
            if isinstance(name, bytes)
        }
        if len(names) < len(wanted):
            lost = await self._lost([keyspace.unpacked(u) for u in wanted if u not in names])
            names |= {keyspace.packed(user): name for user, name in lost.items()}
        return names

    async def _lost(self, users: Sequence[str]) -> dict[str, str]:
        try:
            names = await self._names_of(users)
        except DbUnavailable:
            return {}  # a board without some names is worth more than none
        if names:
            # What has been kept since is newer.
            await self._store(names, replace=False)
        return names

    async def _store(self, names: Mapping[str, str], *, replace: bool) -> None:
        arguments: list[str | bytes] = ["replace" if replace else "", keyspace.INVALIDATE]
        for user, name in names.items():
            arguments += (keyspace.packed(user), name)
        await self._keep([keyspace.NAMES], arguments)
