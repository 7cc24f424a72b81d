"""Every certificate and the CA replaced while calls go on between units that read them late."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest

from chassis.errors import Unavailable
from chassis.process import background
from chassis.rpc import client, server, tls
from chassis.settings import ProcessSettings
from chassis.testing import eventually
from deploy import certificates

CALL, FOLLOW = "/scoreboard.Counter/Call", "/scoreboard.Counter/Follow"
CALLERS = dict.fromkeys((CALL, FOLLOW), frozenset({"gateway"}))
UNITS = ("auth", "gateway")
# So short that every state of the files meets handshakes.
CONNECTION_AGE_S = 0.1
STEPS = ("renew", *certificates.STEPS)


class Counter:
    """Counts; a stream has every number from the one that the caller names on."""

    def __init__(self) -> None:
        self.peers: set[str] = set()

    async def call(self, request: bytes, context: Any) -> bytes:
        self.peers.add(context.peer())
        await asyncio.sleep(0.001)
        return bytes(context.auth_context()["x509_pem_cert"][0])

    async def follow(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for since in requests:
            for number in count(int(since)):
                yield str(number).encode()
                await asyncio.sleep(0.005)

    def register(self, target: grpc.aio.Server) -> None:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Call": grpc.unary_unary_rpc_method_handler(self.call),
            "Follow": grpc.stream_stream_rpc_method_handler(self.follow),
        }
        target.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("scoreboard.Counter", methods)]
        )


class Load:
    """Calls and a stream over one channel, which end with the first failure."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.shown = b""  # the caller's certificate, as the last call had it
        self.numbers: list[int] = []
        self.attachments = 0
        self._call: Any = channel.unary_unary(CALL)
        self._follow: Any = channel.stream_stream(FOLLOW)

    async def call(self) -> None:
        while True:
            self.shown = await self._call(b"")

    async def follow(self) -> None:
        while True:
            stream = self._follow()
            self.attachments += 1
            await stream.write(str(len(self.numbers)).encode())
            while (message := await stream.read()) is not grpc.aio.EOF:
                self.numbers.append(int(message))


async def test_no_call_fails_while_every_certificate_and_the_ca_are_replaced(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "tls"
    certificates.make(folder, UNITS)
    shutil.copytree(folder, tmp_path / "before")
    replicas = [tls.Identity(folder / "auth") for _ in range(2)]
    caller = tls.Identity(folder / "gateway", drain_s=0.2)
    counters = [Counter(), Counter()]
    async with AsyncExitStack() as stack:
        ports = [
            (await stack.enter_async_context(served(counter, identity))).port
            for counter, identity in zip(counters, replicas, strict=True)
        ]
        target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
        channel = client.open_channel(target, unit="auth", identity=caller)
        load = Load(await stack.enter_async_context(channel))
        await stack.enter_async_context(background(load.follow(), *(load.call() for _ in range(4))))
        await goes_on(counters)

        # Whichever end reads first, each state between two steps is one in which all trust all.
        orders = [[replicas[0], caller, replicas[1]], [caller, *replicas], [*replicas, caller]]
        for step, order in zip(STEPS, [*orders, orders[0]], strict=True):
            before, attachments = caller.files, load.attachments
            take(folder, step)
            for identity in order:
                identity.check()
                await goes_on(counters)
            assert caller.files != before
            await moved(load, caller, attachments=attachments)

        assert load.numbers == list(range(len(load.numbers))), "the stream lost or repeated one"
        await only_the_new_ca_counts(tmp_path, ports[0])


def take(folder: Path, step: str) -> None:
    """Takes a step as an operator does; `renew` after every leaf was lost."""
    if step == "renew":
        for unit in UNITS:
            (folder / unit / "tls.key").unlink()
        certificates.make(folder, UNITS)
    else:
        certificates.take(folder, UNITS, step, read_within=timedelta())


def served(counter: Counter, identity: tls.Identity) -> Any:
    return server.running(
        counter.register,
        settings=ProcessSettings(tls_dir=Path(), connection_age_s=CONNECTION_AGE_S),
        identity=identity,
        callers=CALLERS,
        checks={},
    )


async def goes_on(counters: list[Counter]) -> None:
    """Returns when every replica was called over a connection that was made since."""
    before = [set(counter.peers) for counter in counters]

    async def connected_again() -> bool:
        return all(counter.peers - peers for counter, peers in zip(counters, before, strict=True))

    await eventually(connected_again)


async def moved(load: Load, caller: tls.Identity, *, attachments: int) -> None:
    """Returns when the calls show the caller's present certificate, and the stream was moved."""

    async def has_moved() -> bool:
        shown = load.shown.strip() == caller.files.certificate.strip()
        return shown and load.attachments > attachments

    await eventually(has_moved)


async def only_the_new_ca_counts(tmp_path: Path, port: int) -> None:
    folder, before = tmp_path / "tls" / "gateway", tmp_path / "before" / "gateway"
    late = tmp_path / "late"
    shutil.copytree(before, late)
    shutil.copy(folder / "ca.crt", late / "ca.crt")  # the server's certificate is no problem
    async with client.open_channel(
        f"127.0.0.1:{port}", unit="auth", identity=tls.Identity(folder)
    ) as channel:
        call: Any = channel.unary_unary(CALL)
        assert await call(b"")
    for refused in (late, before):
        async with client.open_channel(
            f"127.0.0.1:{port}", unit="auth", identity=tls.Identity(refused)
        ) as channel:
            call = channel.unary_unary(CALL)
            with pytest.raises(Unavailable):
                await call(b"")
