"""The names of players, in one hash in Redis: boards hold ids only."""

from collections.abc import Collection, Mapping, Sequence

from chassis.postgres import DbUnavailable
from chassis.redis import Redis, Script
from services.scores.boards import keys
from services.scores.boards.store import BoardStore

Name = tuple[int, str]  # its version, and the name


class Names:
    """Every method raises RedisError. Names that Redis has lost come from `store`."""

    def __init__(self, redis: Redis, store: BoardStore) -> None:
        self._redis = redis
        self._store = store
        self._keep = Script.read(redis, __package__, "name.lua")

    async def keep(self, names: Mapping[str, Name]) -> None:
        """Keeps those names, by id, that are newer; readers that cached an older one drop it."""
        if not names:
            return
        arguments: list[str | bytes] = [keys.INVALIDATE]
        for user, (version, name) in names.items():
            arguments += (keys.packed(user), version.to_bytes(8) + name.encode())
        await self._keep([keys.NAMES], arguments)

    async def of(self, users: Collection[bytes]) -> dict[bytes, str]:
        """The names of players, by packed id; those without one are left out, as are those whose
        name is lost while Postgres is unavailable."""
        wanted = list(dict.fromkeys(users))
        if not wanted:
            return {}
        found = await self._redis.hmget(keys.NAMES, wanted)
        names = {
            user: kept[8:].decode()
            for user, kept in zip(wanted, found, strict=True)
            if isinstance(kept, bytes)
        }
        if len(names) < len(wanted):
            lost = await self._lost([keys.unpacked(u) for u in wanted if u not in names])
            names |= {keys.packed(user): name for user, (_, name) in lost.items()}
        return names

    async def _lost(self, users: Sequence[str]) -> dict[str, Name]:
        try:
            names = await self._store.names(users)
        except DbUnavailable:
            return {}  # a board without some names is worth more than none
        await self.keep(names)
        return names
