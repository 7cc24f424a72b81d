"""What tests of several units need: waiting for a condition, and a served unit with its channel."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from chassis.rpc import client, server, tls
from chassis.settings import ProcessSettings

T = TypeVar("T")


async def eventually(
    condition: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0, pause_s: float = 0.02
) -> T:
    """The first truthy answer of `condition`, called again and again.

    Raises AssertionError with the last answer (or the last AssertionError) after `timeout_s`.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while True:
        try:
            answer = await condition()
            if answer:
                return answer
            problem = AssertionError(f"still {answer!r} after {timeout_s:g} s")
        except AssertionError as error:
            problem = error
        if loop.time() > until:
            raise problem
        await asyncio.sleep(pause_s)


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """A folder with one folder of certificate files per unit."""

    folder: Path

    def identity(self, unit: str) -> tls.Identity:
        """The certificate that `unit` shows."""
        return tls.Identity(self.folder / unit)


@asynccontextmanager
async def served(
    unit: str,
    register: server.Register,
    *,
    certificates: Certificates,
    callers: Mapping[str, frozenset[str]],
    caller: str,
) -> AsyncIterator[grpc.aio.Channel]:
    """`unit` served over real gRPC within the context, and a channel to it that `caller` opened."""
    settings = ProcessSettings(tls_dir=certificates.folder / unit)
    async with server.running(
        register,
        settings=settings,
        identity=certificates.identity(unit),
        callers=callers,
        checks={},
    ) as running:
        channel = client.open_channel(
            f"127.0.0.1:{running.port}", unit=unit, identity=certificates.identity(caller)
        )
        async with channel:
            yield channel
