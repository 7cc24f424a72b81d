"""The limits of the live channel, its slow readers, and its end."""

import asyncio
import json
import socket as sockets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest

from chassis.testing import Certificates, eventually
from gateway.live.limits import LiveLimits
from gateway.tests.feed import BOARD, Board, Live, Socket, live


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Live]:
    async with live(certificates) as running:
        yield running


async def status_of(server: Live, **headers: str) -> tuple[int, str | None]:
    """The refused handshake's status and Retry-After."""
    options = {"Sec-WebSocket-Protocol": "scoreboard.v1.json", **headers}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with server.open(headers=options, protocols=()):
            pass
    found = refused.value.headers
    return refused.value.status, found.get("Retry-After") if found else None


def offsets(received: Sequence[dict[str, Any]]) -> list[int]:
    return [frame["offset"] for frame in received]


# ---- limits ----


async def test_more_than_the_burst_of_frames_closes(certificates: Certificates) -> None:
    limits = LiveLimits(frames_per_s=1, frames_burst=5)
    async with live(certificates, limits=limits) as server, server.open() as client:
        await client.connect()
        for n in range(4):
            await client.send("ping", t=n)
        assert [(await client.next())["t"] for _ in range(4)] == [0, 1, 2, 3]
        await client.send("ping", t=9)
        assert await client.end() == 4013


async def test_who_keeps_flooding_still_learns_why_it_was_closed(server: Live) -> None:
    async with server.open() as client:
        await client.connect()
        for n in range(3_000):
            await client.send("ping", t=n)
        assert await client.end() == 4013


async def test_subscriptions_have_a_limit(certificates: Certificates) -> None:
    async with live(certificates, limits=LiveLimits(subscriptions=3)) as server:
        names = [f"leaderboard:b{n}" for n in range(4)]
        server.feed.boards |= {name: Board(name) for name in names}
        async with server.open() as client:
            await client.connect(*names[:2], token="ada")  # and the own channel
            reply = await client.call("subscribe", channel=names[2])
            assert (reply["type"], reply["code"]) == ("error", "limit_exceeded")
        async with server.open() as client:
            await client.send("connect", subs=[{"channel": name} for name in names])
            assert await client.end() == 4505


async def test_a_user_has_five_sockets(server: Live) -> None:
    opened = [server.client.ws_connect(f"{server.url}/ws/leaderboard") for _ in range(5)]
    clients = [Socket(await opening) for opening in opened]
    for client in clients:
        await client.connect(token="ada")
    async with server.open() as sixth:
        await sixth.send("connect", token="ada")
        assert await sixth.end() == 4504
    async with server.open() as other:
        assert (await other.connect(token="bob"))["type"] == "welcome"

    await clients[0].ws.close()
    async with server.open() as again:
        assert (await again.connect(token="ada"))["type"] == "welcome"
    for client in clients:
        await client.ws.close()


async def test_an_address_has_twenty_sockets_and_ipv6_is_counted_by_its_64(
    certificates: Certificates,
) -> None:
    async with live(certificates, limits=LiveLimits(sockets_per_address=2)) as server:
        for first, second, third, other in (
            ("192.0.2.1",) * 3 + ("192.0.2.2",),
            ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:3", "2001:db8:0:1::1"),
        ):
            async with (
                server.open(headers={"X-Address": first}) as one,
                server.open(headers={"X-Address": second}) as two,
                server.open(headers={"X-Address": third}) as three,
                server.open(headers={"X-Address": other}) as four,
            ):
                assert await three.end() == 4504
                for client in (one, two, four):
                    assert (await client.connect())["type"] == "welcome"


async def test_without_a_connect_frame_the_socket_closes(certificates: Certificates) -> None:
    limits = LiveLimits(connect_s=0.1, tick_s=0.02)
    async with live(certificates, limits=limits) as server, server.open() as client:
        assert await client.end() == 4011


async def test_who_answers_no_ping_is_closed_and_who_does_stays(
    certificates: Certificates,
) -> None:
    limits = LiveLimits(ping_s=0.1, dead_s=0.4, tick_s=0.02)
    async with (
        live(certificates, limits=limits) as server,
        server.open() as silent,
        server.open() as lively,
    ):
        await silent.connect()
        await lively.connect()
        ended = asyncio.create_task(silent.end())
        while not ended.done():
            ping = json.loads((await lively.ws.receive(timeout=5)).data)
            assert ping["type"] == "ping"
            await lively.send("pong", t=ping["t"])
        assert await ended == 4012


# ---- slow readers ----


class Stalled:
    """A raw client that reads only when the test does, with a small window."""

    def __init__(self, server: Live) -> None:
        self.socket = sockets.socket()
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        host, port = server.url.removeprefix("http://").split(":")
        self._at = (host, int(port))

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        self.socket.setblocking(False)
        await loop.sock_connect(self.socket, self._at)
        head = (
            "GET /ws/leaderboard HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await loop.sock_sendall(self.socket, head.encode())
        self.reader, self.writer = await asyncio.open_connection(sock=self.socket, limit=4096)
        await self.reader.readuntil(b"\r\n\r\n")
        text = json.dumps({"type": "connect", "id": 1, "subs": [{"channel": BOARD}]}).encode()
        self.writer.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """Reads on: (opcode, payload)."""
        while True:
            try:
                head = await self.reader.readexactly(2)
                length = head[1]
                if length == 126:
                    length = int.from_bytes(await self.reader.readexactly(2), "big")
                elif length == 127:
                    length = int.from_bytes(await self.reader.readexactly(8), "big")
                yield head[0] & 15, await self.reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return


async def test_a_slow_reader_gets_one_snapshot_for_what_it_missed(
    certificates: Certificates,
) -> None:
    limits = LiveLimits(conflate_bytes=32 * 1024, blocked_s=30, send_buffer_bytes=4096)
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)  # the welcome
        async with server.open() as lively:
            await lively.connect(BOARD)
            for _ in range(100):
                server.feed.publish(changes="z" * 4000)
                assert (await lively.next())["type"] == "delta"
        received = []
        async with asyncio.timeout(10):
            async for _, payload in reading:
                received.append(json.loads(payload))
                if len(received) in (2, 4, 6, 8):
                    server.feed.publish()  # while it catches up
                if received[-1]["type"] == "snapshot":
                    break
        server.feed.publish()
        async with asyncio.timeout(10):
            after = json.loads((await anext(reading))[1])
        client.writer.close()

    deltas, snapshot = received[:-1], received[-1]
    assert offsets(deltas) == list(range(1, len(deltas) + 1)), "no hole before the snapshot"
    assert len(deltas) < 60
    assert (snapshot["reason"], snapshot["offset"]) == ("conflated", 104)
    assert snapshot["data"]["n"] == 104
    assert (after["type"], after["offset"]) == ("delta", 105)


async def test_many_small_frames_are_conflated_by_their_number(
    certificates: Certificates,
) -> None:
    limits = LiveLimits(
        conflate_frames=10,
        conflate_bytes=1 << 30,
        bytes_max=1 << 30,
        blocked_s=30,
        send_buffer_bytes=4096,
    )
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)
        async with server.open() as lively:
            await lively.connect(BOARD)
            # More than the kernel takes, so that a queue begins with this one.
            server.feed.publish(changes="z" * 1_000_000)
            await lively.next()
            for _ in range(60):
                server.feed.publish()
                assert (await lively.next())["type"] == "delta"
        received: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while not received or received[-1]["type"] == "delta":
                received.append(json.loads((await anext(reading))[1]))
        client.writer.close()

    assert offsets(received) == [*range(1, 12), 61], "the first, ten more, then one snapshot"
    assert (received[-1]["type"], received[-1]["reason"]) == ("snapshot", "conflated")


async def close_code(reading: AsyncIterator[tuple[int, bytes]]) -> int:
    """Reads on until the server closes; its close code."""
    async with asyncio.timeout(10):
        async for opcode, payload in reading:
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")
    raise AssertionError("the connection was lost without a close frame")


async def test_a_reader_that_stays_blocked_is_closed(certificates: Certificates) -> None:
    limits = LiveLimits(
        conflate_bytes=8 * 1024, blocked_s=0.2, closing_s=30, send_buffer_bytes=4096
    )
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)
        (outlet,) = (await server.hub.hold(BOARD)).subscribers
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            server.feed.publish(changes="z" * 4000)

        async def closing() -> bool:
            return outlet.closing  # type: ignore[attr-defined, no-any-return]

        await eventually(closing)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await close_code(reading) == 4008
        client.writer.close()


@pytest.mark.parametrize(
    ("limits", "frames_min"),
    [
        ({"bytes_max": 64 * 1024, "frames_max": 1 << 30}, 64 * 1024 // 2_200),
        ({"bytes_max": 1 << 30, "frames_max": 200}, 200),
    ],
    ids=["bytes", "frames"],
)
async def test_what_cannot_be_conflated_closes_above_the_cap(
    certificates: Certificates, limits: dict[str, int], frames_min: int
) -> None:
    slow = LiveLimits(**limits, blocked_s=30, closing_s=30, send_buffer_bytes=4096)
    async with live(certificates, limits=slow) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)
        channel = await server.hub.hold(BOARD)
        outlet: Any
        (outlet,) = channel.subscribers
        frame, written = channel.snapshot_frame("gap"), 0
        while not outlet.closing:
            outlet.write(frame)
            written += 1
        assert await close_code(reading) == 4008
        client.writer.close()

    # The kernel takes some, which wait in no queue.
    assert frames_min <= written < frames_min + 100


async def test_a_slow_reader_that_never_takes_the_close_frame_is_cut_off(
    certificates: Certificates,
) -> None:
    limits = LiveLimits(bytes_max=64 * 1024, blocked_s=30, closing_s=0.2, send_buffer_bytes=4096)
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        await anext(client.frames())
        channel = await server.hub.hold(BOARD)
        outlet: Any
        (outlet,) = channel.subscribers
        while not outlet.closing:
            outlet.write(channel.snapshot_frame("gap"))

        async def closed() -> bool:
            return not channel.subscribers

        await eventually(closed)
        client.writer.close()


# ---- many sockets, and the end ----


async def test_two_hundred_sockets_get_the_same_bytes(certificates: Certificates) -> None:
    # No ping falls among the frames.
    limits = LiveLimits(sockets_per_address=1000, ping_s=1000, dead_s=2000)
    async with live(certificates, limits=limits) as server:
        url = f"{server.url}/ws/leaderboard"
        clients = [Socket(await server.client.ws_connect(url)) for _ in range(200)]
        await asyncio.gather(*(client.connect(BOARD) for client in clients))
        server.feed.publish(changes=[1, 2, 3])
        texts = await asyncio.gather(*(client.ws.receive(timeout=5) for client in clients))
        await asyncio.gather(*(client.ws.close() for client in clients))

    assert {text.data for text in texts} == {server.feed.board.history[0].frame.decode()}
    assert len([i for i in server.feed.interests() if i == ("+", BOARD)]) == 1


async def test_shutdown_is_announced_and_spread(server: Live) -> None:
    async with server.open() as first, server.open() as second, server.open() as third:
        clients = (first, second, third)
        for client in clients:
            await client.connect(BOARD)
        leaving = asyncio.create_task(server.handler.shutdown(0.9))
        loop = asyncio.get_running_loop()
        started = loop.time()
        for client in clients:
            farewell = await client.next()
            assert farewell == {"type": "shutdown", "reason": "draining", "reconnectMs": [0, 900]}
        assert await status_of(server) == (503, "5")

        async def ended(client: Socket) -> float:
            assert await client.end() == 4001
            return loop.time() - started

        ends = sorted(await asyncio.gather(*(ended(client) for client in clients)))
        await leaving
    assert ends[0] > 0.2
    assert ends[1] - ends[0] > 0.2
    assert ends[2] - ends[1] > 0.2


async def test_a_crash_in_a_session_closes_only_that_one(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.open() as other, server.open() as client:
        await other.connect(BOARD)
        await client.connect(BOARD)
        server.feed.boards["leaderboard:odd"] = Board("leaderboard:odd")
        broken = await server.hub.hold("leaderboard:odd")
        broken.snapshot = None  # type: ignore[assignment]
        await client.send("subscribe", channel="leaderboard:odd")
        assert await client.end() == 4004
        server.feed.publish()
        assert (await other.next())["offset"] == 1
