"""One connection to one Redis, shared: commands leave as they come, answers return in that order.

A call in flight when the connection is lost fails, and is never sent again by itself, since
the server may have run it; the next call connects again. So it does after a server has replied that
it is not the primary: its address may lead to another one by now.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from time import perf_counter
from typing import Any, cast
from weakref import WeakSet

import hiredis
import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, InvalidResponse, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.redis import use
from chassis.redis.errors import DEMOTED, ROUTING, reply_error

Argument = str | bytes | int | float
Command = Sequence[Argument]  # its words, the name first

WAITING_MAX = 10_000  # commands in flight, beyond which a call is refused
ALONE_MAX = 16  # commands that block at a time
REST_MIN_S, REST_MAX_S = 0.01, 0.2  # after connecting failed, or led to no primary

_MORE = object()


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a Redis listens, and how to log in there."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""  # of a Unix socket, instead of host and port
    db: int = 0
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Link:
    """A server's shared connection, and those of the commands that block."""

    def __init__(self, server: Server, *, timeout_s: float, waiting_max: int = WAITING_MAX) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._waiting_max = waiting_max
        self._shared: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._arriving = 0  # commands that wait for the connection
        self._problem: RedisError = RedisConnectionError(f"{server} closed the connection")
        self._rest_s = 0.0
        self._rests_until = 0.0
        self._alone: list[_Connection] = []  # those that no command blocks now
        self._alone_count = 0
        _links.add(self)

    @property
    def in_flight(self) -> int:
        """Commands that were sent on the shared connection and not answered yet."""
        return self._shared.waiting if self._shared is not None else 0

    @property
    def connected(self) -> bool:
        """Whether the shared connection stands."""
        return self._shared is not None and self._shared.usable

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._alone_count and not self.in_flight

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, a server's errors among them as values.

        All of it is sent in one piece, so that no one else's commands come between. Raises
        redis-py's ConnectionError and TimeoutError, and DataError for an argument of another type.
        """
        packed = _packed(commands)
        try:
            shared = self._shared
            if shared is None or not shared.usable:
                self._admit(self._arriving)
                self._arriving += len(commands)
                try:
                    shared = await self._connected()
                finally:
                    self._arriving -= len(commands)
            self._admit(shared.waiting)
            sent_s = perf_counter()
            answers = await shared.send(packed, len(commands), self._timeout_s)
        except RedisError:
            use.errors.inc()
            raise
        use.took_s.observe(perf_counter() - sent_s)
        return answers

    async def execute_alone(self, command: Command, *, wait_s: float) -> Any:
        """The answer to a command that blocks up to `wait_s`, as `execute` gives it."""
        if self._alone_count >= ALONE_MAX:
            raise RedisConnectionError(f"{ALONE_MAX} commands block at {self.server}")
        packed = _packed([command])
        self._alone_count += 1
        try:
            unused = self._alone
            connection = await self._unused()
            try:
                answers = await connection.send(packed, 1, wait_s + self._timeout_s)
            except BaseException:
                connection.close()
                raise
            if self._alone is unused:
                unused.append(connection)
            else:
                connection.close()
            return answers[0]
        except RedisError:
            use.errors.inc()
            raise
        finally:
            self._alone_count -= 1

    async def each(self, command: Command) -> dict[str, Any]:
        """The answer of every node, by its address; a failure among them as a value."""
        try:
            (answer,) = await self.execute([command])
        except RedisError as error:
            answer = error
        return {str(self.server): answer}

    def close(self) -> None:
        """Ends the connections; calls in flight fail."""
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in (self._shared, *self._alone):
            if connection is not None:
                connection.close()
        self._alone.clear()

    def _admit(self, waiting: int) -> None:
        if waiting >= self._waiting_max:
            raise RedisConnectionError(f"{waiting} commands wait for {self.server}")

    async def _unused(self) -> "_Connection":
        while self._alone:
            connection = self._alone.pop()
            if connection.usable:
                return connection
        return await _open(self.server, self._timeout_s)

    async def _connected(self) -> "_Connection":
        if self._connecting is None:
            if self._shared is not None and self._shared.demoted is not None:
                self._leave(self._shared.demoted)
            if asyncio.get_running_loop().time() < self._rests_until:
                raise copy(self._problem)
            self._connecting = asyncio.create_task(self._connect())
        # A caller that gives up waiting does not take the connection from the others.
        await asyncio.shield(self._connecting)
        if self._shared is None or not self._shared.usable:
            raise copy(self._problem)
        return self._shared

    async def _connect(self) -> None:
        try:
            self._shared = await _open(self.server, self._timeout_s)
            self._rest_s = 0.0
        except RedisError as error:
            self._rest_s = min(max(2 * self._rest_s, REST_MIN_S), REST_MAX_S)
            self._rest(error)
        finally:
            self._connecting = None

    def _leave(self, demoted: RedisError) -> None:
        """Leaves a server that is not the primary, also by the connections that block."""
        self._shared = None
        for connection in self._alone:
            connection.close()
        self._alone = []  # those that block now are closed as they return
        self._rest_s = REST_MAX_S
        self._rest(demoted)

    def _rest(self, problem: RedisError) -> None:
        self._problem = problem
        self._rests_until = asyncio.get_running_loop().time() + self._rest_s


_links: WeakSet[Link] = WeakSet()
use.count_in_flight(lambda: sum(link.in_flight for link in _links))


class _Call(msgspec.Struct):
    """Commands that were sent together, until the last one is answered."""

    count: int
    due: float
    future: asyncio.Future[list[Any]]
    answers: list[Any] = []


class _Connection(asyncio.Protocol):
    """The commands in flight, in the order in which they were sent."""

    def __init__(self, server: Server) -> None:
        self.waiting = 0  # commands in flight
        self.usable = False
        self.demoted: RedisError | None = None  # the server's word that it is not the primary
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._calls: deque[_Call] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=self._error, notEnoughData=_MORE
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def send(self, packed: bytes, count: int, timeout_s: float) -> "asyncio.Future[list[Any]]":
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not count:
            future.set_result([])
            return future
        due = self._loop.time() + timeout_s
        self._calls.append(_Call(count, due, future))
        self.waiting += count
        self._transport.write(packed)
        # One alarm for all calls: what comes later is due later, unless the one before blocked.
        if self._alarm is None or due < self._alarm.when():
            self._set_alarm(due)
        return future

    def data_received(self, data: bytes) -> None:
        reader, calls = self._reader, self._calls
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _MORE:
                call = calls[0]
                call.answers.append(answer)
                self.waiting -= 1
                if len(call.answers) == call.count:
                    calls.popleft()
                    # A caller that was cancelled meanwhile needs no answer.
                    if not call.future.done():
                        call.future.set_result(call.answers)
        except (InvalidResponse, IndexError) as error:
            self._end(RedisConnectionError(f"{self._server} answered out of turn: {error!r}"))
        if self.demoted is not None and not calls:
            self.close()

    def _error(self, reply: str) -> RedisError:
        error = reply_error(reply)
        if not isinstance(error, ROUTING):
            use.errors.inc()
        if isinstance(error, DEMOTED):
            # What is in flight gets its answers, and nothing more is sent.
            self.demoted, self.usable = error, False
        return error

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(RedisConnectionError(f"{self._server} closed the connection"))

    def close(self) -> None:
        self._end(RedisConnectionError(f"the connection to {self._server} was closed here"))

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._alarm = None
        if not self._calls:
            return
        oldest = self._calls[0]
        if oldest.due > self._loop.time():
            self._set_alarm(oldest.due)
        else:
            # The server is stuck, or behind a network that swallows everything.
            self._end(RedisTimeoutError(f"{self._server} did not answer in time"))

    def _end(self, error: RedisError) -> None:
        self.usable = False
        self._transport.abort()
        if self._alarm is not None:
            self._alarm.cancel()
        calls, self._calls = self._calls, deque()
        self.waiting = 0
        for call in calls:
            if not call.future.done():
                # One object for each caller, since a traceback grows wherever it is raised.
                call.future.set_exception(copy(error))


async def _open(server: Server, timeout_s: float) -> _Connection:
    """A connection that is logged in. Raises RedisError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if server.path:
                _, connection = await loop.create_unix_connection(
                    lambda: _Connection(server), server.path
                )
            else:
                _, connection = await loop.create_connection(
                    lambda: _Connection(server), server.host, server.port, ssl=server.tls
                )
    except TimeoutError as error:
        raise RedisTimeoutError(f"{server} did not answer in time") from error
    except OSError as error:
        raise RedisConnectionError(f"{server}: {error}") from error
    greeting: list[Command] = []
    if server.password:
        greeting.append(("AUTH", *filter(None, (server.username, server.password))))
    if server.db:
        greeting.append(("SELECT", server.db))
    try:
        for answer in await connection.send(_packed(greeting), len(greeting), timeout_s):
            if isinstance(answer, Exception):
                raise answer
    except BaseException:
        connection.close()
        raise
    return connection


def _packed(commands: Sequence[Command]) -> bytes:
    try:
        return b"".join([hiredis.pack_command(tuple(words)) for words in commands])  # type: ignore[arg-type]
    except TypeError as error:
        raise DataError(str(error)) from error
