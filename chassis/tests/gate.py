"""A way to a Redis that a test can close: it counts who comes, and cuts or swallows at will."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# What a call raises after its connection failed; UNAVAILABLE lists more.
LOST = (RedisConnectionError, RedisTimeoutError, ClusterDownError, OSError)

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Gate:
    """Passes everything on, both ways, until it is cut, shut or kept from answering."""

    def __init__(self, dial: Dial) -> None:
        self.port = 0
        self.arrivals = 0  # connections so far
        self.shut = False  # new connections are ended at once
        self.answering = asyncio.Event()  # while unset, answers are kept back
        self.answering.set()
        self.dial = dial
        self._pairs: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends all connections that stand."""
        for writer in self._pairs:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrivals += 1
        if self.shut:
            writer.close()
            return
        answers, questions = await self.dial()
        pair = {writer, questions}
        self._pairs |= pair
        try:
            with contextlib.suppress(OSError):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_pass(reader, questions, None))
                    tasks.create_task(_pass(answers, writer, self.answering))
        except* OSError:
            pass
        finally:
            self._pairs -= pair
            for end in pair:
                end.transport.abort()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: asyncio.Event | None
) -> None:
    while data := await reader.read(65536):
        if allowed is not None:
            await allowed.wait()
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError  # ends the other way too


@asynccontextmanager
async def gate_to(dial: Dial, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gate]:
    """A gate on loopback before what `dial` reaches, shown by TLS if there is a context."""
    gate = Gate(dial)
    server = await asyncio.start_server(gate.serve, "127.0.0.1", 0, ssl=tls)
    gate.port = server.sockets[0].getsockname()[1]
    try:
        yield gate
    finally:
        server.close()
        gate.answering.set()
        gate.cut()
        await asyncio.sleep(0)
