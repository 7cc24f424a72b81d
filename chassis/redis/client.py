"""Redis: redis-py's client over shared connections, and scripts called by their hash.

Any number of callers share one connection to each server, which costs a fraction of redis-py's
own. A command that blocks gets one for itself, and so does pub/sub, which stays redis-py's. A URL
`redis+cluster://…` names a cluster.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import resources
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.connection import ConnectKwargs, SSLConnection, parse_url
from redis.exceptions import DataError, NoScriptError, RedisError

from chassis.process import when_reached
from chassis.redis.cluster import Cluster, slot_of
from chassis.redis.errors import REFUSED
from chassis.redis.link import Argument, Command, Link, Server

HEALTH_MS = 10_000  # for which a check's key is kept
REFUSED_S = 1.0  # after a refused write, in which the server counts as behind
_CHECKED_SLOTS = 64  # of a cluster, so that each node has some of them

# What commands raise, whether the server is down or refuses.
UNAVAILABLE = (RedisError, OSError)

Key = str | bytes
Call = tuple[Sequence[Key], Sequence[Argument]]  # a script's keys and arguments
Answers = TypeVar("Answers", bound=Sequence[Any])

# Commands that would hold up all callers of a shared connection.
_STALLING = frozenset(
    "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN MONITOR WAIT WATCH".split()
)


@asynccontextmanager
async def open_redis(url: str, *, timeout_s: float = 2.0) -> AsyncIterator["Redis"]:
    """A client, closed with the context. Waits up to 30 s for the server.

    A command may take `timeout_s`, one that blocks on purpose that much longer.
    """
    client = Redis(url, timeout_s=timeout_s)
    try:
        await when_reached(client.ping, UNAVAILABLE, "redis_awaited")
        yield client
    finally:
        await client.aclose()


class Redis(Client):
    """redis-py's client with all of its commands; what they raise is redis-py's too.

    Replies are bytes. A call whose connection is lost fails, whether it was run or not.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        """Connects when first called. Raises ValueError for another URL."""
        named, clustered = _named(url)
        servers = [_server(options) for options in named]
        self._servers: Link | Cluster = (
            Cluster(servers, timeout_s=timeout_s)
            if clustered
            else Link(servers[0], timeout_s=timeout_s)
        )
        waits: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        # The answers have the shapes of protocol 2, which the links speak.
        self._options: dict[str, Any] = {**named[0], **waits, "protocol": 2}
        self._pools: dict[Server | None, ConnectionPool] = {}
        self._refused_at_s = float("-inf")
        super().__init__(connection_pool=self._pool())
        self._shapes = dict(self.response_callbacks)  # by name, in capitals as redis-py says them

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """The answer to one command, in redis-py's shape. Raises RedisError."""
        command = _words(args)
        wait_s = _wait_s(command)
        if wait_s is None:
            (answer,) = await self._servers.execute((command,))
        else:
            answer = await self._servers.execute_alone(command, wait_s=wait_s)
        self.checked((answer,))
        return self.shaped(args[0], answer, options)

    async def execute_many(self, commands: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """The answers to several commands, as the server gives them, in one round trip.

        Each command is its words, the name first. On a cluster each node gets its share. `atomic`:
        all in one step, which needs all keys in one slot. Raises the first RedisError among the
        answers, after the other commands have run.
        """
        return self.checked(await self.answers(commands, atomic=atomic))

    async def answers(self, commands: Sequence[Command], *, atomic: bool = False) -> list[Any]:
        """As `execute_many`, each command's own RedisError among the answers."""
        if not commands:
            return []
        if not atomic:
            return await self._servers.execute(commands)
        transaction = [("MULTI",), *commands, ("EXEC",)]
        if isinstance(self._servers, Cluster):
            answers = await self._servers.execute_atomic(transaction)
        else:
            answers = await self._servers.execute(transaction)
        if isinstance(answers[-1], list):
            return answers[-1]
        # Nothing was run, and the first refusal says why.
        raise next(answer for answer in answers if isinstance(answer, RedisError))

    def checked(self, answers: Answers) -> Answers:
        """The answers. Raises the first RedisError among them."""
        for answer in answers:
            if isinstance(answer, RedisError):
                if isinstance(answer, REFUSED):
                    self._refused_at_s = asyncio.get_running_loop().time()
                raise answer
        return answers

    async def each(self, command: Command) -> dict[str, Any]:
        """The answer of every node, of a cluster's masters, by address (`host:port`, or a socket's
        path), in redis-py's shape; an error stays a value. Raises RedisError where no node is."""
        name, answers = str(command[0]), await self._servers.each(command)
        return {node: self.shaped(name, answer, {}) for node, answer in answers.items()}

    @property
    def behind(self) -> bool:
        """Whether a write was refused within the last second, so that reads lack it."""
        return asyncio.get_running_loop().time() < self._refused_at_s + REFUSED_S

    async def check(self, name: str) -> None:
        """Returns when every server takes writes; writes `health:<name>`. Raises RedisError.

        A cluster gets a key for each of 64 slots.
        """
        clustered = isinstance(self._servers, Cluster)
        tags = [f":{{{n}}}" for n in range(_CHECKED_SLOTS)] if clustered else [""]
        await self.execute_many(
            [("SET", f"health:{name}{tag}", "", "PX", HEALTH_MS) for tag in tags]
        )

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_Pipeline":
        """redis-py's form of `execute_many`, with answers in its shape; without WATCH."""
        return _Pipeline(self, transaction=transaction)

    def pubsub(self, **options: Any) -> PubSub:
        """redis-py's, on a connection of its own, to any node of a cluster."""
        return PubSub(self._pool(), **options)

    def together(self, keys: Sequence[Key]) -> list[list[int]]:
        """Which of `keys` one script may touch: their positions, in groups.

        All in one group; on a cluster one group for each slot.
        """
        if not isinstance(self._servers, Cluster):
            return [list(range(len(keys)))]
        groups: dict[int, list[int]] = {}
        for i, key in enumerate(keys):
            groups.setdefault(slot_of(key), []).append(i)
        return list(groups.values())

    def shaped(self, name: str, answer: Any, options: Mapping[str, Any]) -> Any:
        """The answer to the command `name`, as redis-py gives it; an error stays one."""
        shape = self._shapes.get(name)
        if shape is None or isinstance(answer, RedisError):
            return answer
        return shape(answer, **{k: v for k, v in options.items() if k != "keys"})

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Ends all connections; calls in flight fail."""
        self._servers.close()
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self) -> ConnectionPool:
        """Where redis-py's own connections come from."""
        options, server = self._options, None
        if isinstance(self._servers, Cluster):
            server = self._servers.somewhere()
            options = {**options, "host": server.host, "port": server.port}
        if server not in self._pools:
            self._pools[server] = ConnectionPool(**options)
        return self._pools[server]


class Script:
    """A Lua script from a unit's own files, called by its hash."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis = redis
        self._text = text
        self._hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    @classmethod
    def read(cls, redis: Redis, package: str, *names: str) -> "Script":
        """The script in these files of `package`, one after the other."""
        folder = resources.files(package)
        return cls(redis, "\n".join(folder.joinpath(name).read_text() for name in names))

    async def __call__(self, keys: Sequence[Key], args: Sequence[Argument]) -> Any:
        """The script's answer. Raises RedisError."""
        (answer,) = await self.many([(keys, args)])
        return answer

    async def many(self, calls: Sequence[Call]) -> list[Any]:
        """The answers of several calls made in one round trip, each with keys of one slot.

        Raises the first RedisError among the answers, after the other calls have run.
        """
        answers = await self._redis.answers(
            [("EVALSHA", self._hash, len(keys), *keys, *args) for keys, args in calls]
        )
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            # Those did not run. EVAL also caches the script at the server.
            again = [
                ("EVAL", self._text, len(calls[i][0]), *calls[i][0], *calls[i][1]) for i in unknown
            ]
            for i, answer in zip(unknown, await self._redis.answers(again), strict=True):
                answers[i] = answer
        return self._redis.checked(answers)


class _Pipeline(Pipeline):
    """Commands that are kept until `execute`."""

    def __init__(self, redis: Redis, *, transaction: bool) -> None:
        super().__init__(redis.connection_pool, redis.response_callbacks, transaction, None)
        self._redis = redis

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers, in redis-py's shape. Raises the first RedisError among them."""
        stack, self.command_stack = self.command_stack, []
        commands = [_words(args) for args, _ in stack]
        answers = await self._redis.answers(commands, atomic=self.is_transaction)
        if raise_on_error:
            self._redis.checked(answers)
        return [
            self._redis.shaped(str(args[0]), answer, options)
            for (args, options), answer in zip(stack, answers, strict=True)
        ]

    async def watch(self, *names: Any) -> None:  # type: ignore[override]
        """Raises DataError."""
        raise DataError("WATCH would watch for all callers of the shared connection")


def _words(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """redis-py names some commands by two words in one."""
    return (*args[0].split(), *args[1:]) if " " in args[0] else args


def _wait_s(command: tuple[Any, ...]) -> float | None:
    """How long the command may block; None: it does not."""
    name = command[0]
    if name in _STALLING:
        raise DataError(f"{name} would hold up all callers of the shared connection")
    if name not in ("XREAD", "XREADGROUP") or b"BLOCK" not in command:
        return None
    wait_ms = int(command[command.index(b"BLOCK") + 1])
    if not wait_ms:
        raise DataError("every wait needs an end")
    return wait_ms / 1000


def _named(url: str) -> tuple[list[ConnectKwargs], bool]:
    """How redis-py reads the servers that a URL names, and whether they are a cluster's.

    Raises ValueError.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.removesuffix("+cluster")
    if scheme == parts.scheme:
        return [parse_url(url)], False
    login, at, hosts = parts.netloc.rpartition("@")
    named = [
        parse_url(parts._replace(scheme=scheme, netloc=f"{login}{at}{host}").geturl())
        for host in hosts.split(",")
    ]
    if any(options.get("db") for options in named):
        raise ValueError("a cluster has database 0 only")
    return named, True


def _server(options: ConnectKwargs) -> Server:
    parsed: dict[str, Any] = dict(options)
    server = Server(**{name: parsed[name] for name in Server.__annotations__ if name in parsed})
    if parsed.get("connection_class") is not SSLConnection:
        return server
    tls = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    return replace(server, tls=SSLConnection(**tls).ssl_context.get())
