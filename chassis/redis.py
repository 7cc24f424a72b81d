"""Redis: the client, and scripts that are sent once and then called by their hash."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.telemetry import log

# What redis-py raises when the server is away.
AWAY = (RedisConnectionError, RedisTimeoutError, OSError)

Argument = str | bytes | int


@asynccontextmanager
async def open_redis(
    url: str, *, size_max: int = 16, timeout_s: float = 2.0
) -> AsyncIterator[Redis]:
    """A client whose callers wait for a free connection; closed with the context.

    Answers are bytes. Waits up to 30 s for the server. A command may take `timeout_s`;
    one that blocks on purpose needs a client of its own.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=size_max,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.01), retries=1),
    )
    client: Redis = Redis(connection_pool=pool)
    try:
        await _when_there(client)
        yield client
    finally:
        await client.aclose()
        await pool.aclose()


class Script:
    """A Lua script from a unit's own files, sent once per server and called by its hash."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis = redis
        self._text = text
        self._script = redis.register_script(text)

    @classmethod
    def read(cls, redis: Redis, package: str, name: str) -> "Script":
        """The script in file `name` of `package`."""
        return cls(redis, resources.files(package).joinpath(name).read_text())

    async def __call__(self, keys: Sequence[str | bytes], args: Sequence[Argument]) -> Any:
        """The script's answer. Raises RedisError."""
        return await self._script(keys=list(keys), args=list(args))

    async def many(
        self, calls: Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]]
    ) -> list[Any]:
        """The answers of several calls made in one round trip. Raises RedisError."""
        try:
            return await self._pipelined(calls)
        except NoScriptError:
            await self._redis.script_load(self._text)
            return await self._pipelined(calls)

    async def _pipelined(
        self, calls: Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]]
    ) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for keys, args in calls:
            pipe.evalsha(self._script.sha, len(keys), *keys, *args)
        return await pipe.execute()


async def _when_there(client: Redis) -> None:
    for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3, 3, 3, 3, 3, 3, 3, 3):
        try:
            await client.ping()
            return
        except (RedisError, OSError) as error:
            log.warning("redis_awaited", error=repr(error))
            await asyncio.sleep(pause_s)
    await client.ping()
