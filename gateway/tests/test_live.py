"""The live channel, spoken by a real client over a real socket."""

import asyncio
import base64
import json
import socket as sockets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
import structlog

from chassis import clock
from chassis.testing import Certificates, eventually
from gateway.hub import HubLimits
from gateway.live_limits import LiveLimits, QueueLimits
from gateway.tests.feed import ADA, BOARD, BOB, Board, Live, Socket, live


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


# ---- the main road ----


async def test_a_client_is_welcomed_with_the_board_and_then_hears_it_move(server: Live) -> None:
    async with server.open() as client:
        welcome = await client.connect("leaderboard", client={"name": "test", "version": "1"})
        server.feed.publish(changes=[1])
        server.feed.publish(count=2, changes=[2])
        deltas = [await client.next() for _ in range(3)]

    assert client.ws.protocol == "scoreboard.v1.json"
    assert welcome["type"] == "welcome"
    assert welcome["session"] is None
    assert welcome["heartbeat"] == {"intervalMs": 25000, "timeoutMs": 35000}
    assert welcome["retry"] == {"baseMs": 1000, "maxMs": 30000, "spreadMs": 2000}
    assert welcome["limits"]["subscriptions"] == 32
    assert welcome["connId"]
    assert welcome["serverTime"].endswith("Z")
    assert welcome["subs"] == [
        {
            "type": "subscribed",
            "id": 1,
            "channel": BOARD,
            "epoch": "e1",
            "offset": 0,
            "recovered": False,
            "snapshot": server.feed.board.data | {"n": 0},
        }
    ]
    assert [(d["type"], d["offset"], d["event"]) for d in deltas] == [
        ("delta", n, "leaderboard.rank_change") for n in (1, 2, 3)
    ]


async def test_a_player_is_subscribed_to_the_own_channel_unasked(server: Live) -> None:
    async with server.open() as client:
        welcome = await client.connect("leaderboard", token="ada")
        server.feed.publish(f"user:{ADA}", event="score.updated", version=2)
        event = await client.next()

    assert welcome["session"]["userId"] == ADA
    assert 3_590_000 < welcome["session"]["expiresInMs"] <= 3_600_000
    own = welcome["subs"][1]
    assert own["channel"] == f"user:{ADA}"
    assert own["snapshot"] == {"score": 5, "rank": 2, "version": 1}
    assert not own["recovered"]
    assert "epoch" not in own
    assert (event["channel"], event["event"]) == (f"user:{ADA}", "score.updated")


@pytest.mark.parametrize(
    ("path", "headers", "protocols", "field"),
    [
        ("", {"Authorization": "Bearer ada"}, ("scoreboard.v1.json",), {"token": "bob"}),
        (
            "?token=bob",
            {},
            (
                "scoreboard.bearer." + base64.urlsafe_b64encode(b"ada").decode().rstrip("="),
                "scoreboard.v1.json",
            ),
            {"token": "bob"},
        ),
        ("?token=bob", {}, ("scoreboard.v1.json",), {"token": "ada"}),
        ("?token=ada", {}, ("scoreboard.v1.json",), {}),
    ],
    ids=["header", "subprotocol", "connect frame", "query"],
)
async def test_the_first_token_found_counts(
    server: Live,
    path: str,
    headers: dict[str, str],
    protocols: tuple[str, ...],
    field: dict[str, str],
) -> None:
    async with server.open(path, headers=headers, protocols=protocols) as client:
        welcome = await client.connect(**field)

    assert client.ws.protocol == "scoreboard.v1.json", "never the bearer one"
    assert welcome["session"]["userId"] == ADA


async def test_a_token_in_the_query_is_ignored_where_that_is_off(
    certificates: Certificates,
) -> None:
    async with live(certificates, query_token=False) as server, server.open("?token=ada") as client:
        assert (await client.connect())["session"] is None


async def test_tokens_reach_no_log(
    server: Live, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "eyJ-canary"
    bearer = "scoreboard.bearer." + base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("debug"))
    with structlog.testing.capture_logs() as logged:
        async with server.open(f"?token={secret}", protocols=(bearer, "scoreboard.v1.json")) as c:
            await c.send("connect", token=secret)
            assert await c.end() == 4500
        await status_of(server, **{"Sec-WebSocket-Protocol": bearer})

    structlog.configure(wrapper_class=before)
    out = capsys.readouterr()
    everything = f"{logged} {caplog.text} {out.out} {out.err}"
    assert "live_token_refused" in everything
    assert secret not in everything
    assert bearer not in everything


# ---- subscriptions and recovery ----


async def test_subscribe_and_unsubscribe_while_connected(server: Live) -> None:
    server.feed.boards["leaderboard:daily"] = Board("leaderboard:daily", epoch="d")
    async with server.open() as client:
        await client.connect()
        reply = await client.ask("subscribe", channel="leaderboard:daily")
        assert (reply["type"], reply["channel"], reply["epoch"]) == (
            "subscribed",
            "leaderboard:daily",
            "d",
        )
        assert (await client.ask("unsubscribe", channel="leaderboard:daily"))["type"] == "ok"
        server.feed.publish("leaderboard:daily")
        assert (await client.ask("subscribe", channel="leaderboard"))["channel"] == BOARD


async def test_who_comes_back_soon_gets_what_was_missed(server: Live) -> None:
    async with server.open() as client:
        await client.connect("leaderboard")
        server.feed.publish()
        since = {"epoch": "e1", "offset": (await client.next())["offset"]}
    server.feed.publish(count=3)
    channel = await server.hub.hold(BOARD)

    async def arrived() -> bool:
        return channel.offset == 4

    await eventually(arrived)
    async with server.open() as client:
        welcome = await client.ask("connect", subs=[{"channel": "leaderboard", "since": since}])
        server.feed.publish()
        delta = await client.next()

    (sub,) = welcome["subs"]
    assert sub["recovered"] is True
    assert sub["offset"] == 4
    assert offsets(sub["replay"]) == [2, 3, 4]
    assert "snapshot" not in sub
    assert delta["offset"] == 5


@pytest.mark.parametrize(
    "since",
    [{"epoch": "e1", "offset": 1}, {"epoch": "e0", "offset": 299}, {"epoch": "e1", "offset": 400}],
    ids=["too old", "another epoch", "ahead of the server"],
)
async def test_who_cannot_be_replayed_to_gets_a_snapshot(
    server: Live, since: dict[str, Any]
) -> None:
    await server.hub.hold(BOARD)
    server.feed.publish(count=300)

    async def arrived() -> bool:
        return (await server.hub.hold(BOARD)).offset == 300

    await eventually(arrived)
    async with server.open() as client:
        welcome = await client.ask("connect", subs=[{"channel": BOARD, "since": since}])

    (sub,) = welcome["subs"]
    assert sub["recovered"] is False
    assert sub["offset"] == 300
    assert sub["snapshot"]["n"] == 300


async def test_a_replay_larger_than_the_snapshot_is_not_sent(server: Live) -> None:
    async with server.open() as client:
        await client.connect(BOARD)
        server.feed.publish(count=30, changes="y" * 100)
        for _ in range(30):
            await client.next()
        small = await client.ask("subscribe", channel=BOARD, since={"epoch": "e1", "offset": 28})
        large = await client.ask("subscribe", channel=BOARD, since={"epoch": "e1", "offset": 1})

    assert offsets(small["replay"]) == [29, 30]
    assert "replay" not in large
    assert large["snapshot"]["n"] == 30


async def test_a_cut_feed_is_repaired_behind_open_sockets(certificates: Certificates) -> None:
    limits = HubLimits(pause_min_s=0.01)
    async with live(certificates, hub_limits=limits) as server, server.open() as client:
        await client.connect(BOARD)
        server.feed.publish()
        server.feed.cut()
        server.feed.board.publish()
        server.feed.board.publish()
        assert offsets([await client.next() for _ in range(3)]) == [1, 2, 3]

        server.feed.cut()
        server.feed.board.publish()
        server.feed.board.publish()
        del server.feed.board.history[-2:]
        snapshot = await client.next()
        assert (snapshot["type"], snapshot["reason"]) == ("snapshot", "gap")
        assert (snapshot["offset"], snapshot["data"]["n"]) == (5, 5)


@pytest.mark.parametrize(
    ("token", "channel", "code"),
    [
        ("ada", f"user:{BOB}", "forbidden"),
        (None, f"user:{BOB}", "unauthorized"),
        ("ada", "leaderboard:nowhere", "unknown_channel"),
        ("ada", "else:where", "unknown_channel"),
        ("ada", "Leaderboard", "bad_channel"),
        ("ada", "x" * 129, "bad_channel"),
        ("ada", "leaderboard", "already_subscribed"),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused_by_name(
    server: Live, token: str | None, channel: str, code: str
) -> None:
    async with server.open() as client:
        await client.connect("leaderboard", token=token)
        reply = await client.ask("subscribe", channel=channel)

    assert (reply["type"], reply["code"], reply["retryable"]) == ("error", code, False)
    assert f"user:{BOB}" not in [name for _, name in server.feed.interests()]


async def test_channels_of_connect_that_cannot_be_are_told_after_the_welcome(
    server: Live,
) -> None:
    async with server.open() as client:
        welcome = await client.connect("leaderboard", f"user:{BOB}", token="ada")
        refused = await client.next()

    assert [sub["channel"] for sub in welcome["subs"]] == [BOARD, f"user:{ADA}"]
    assert refused == {"type": "unsubscribed", "channel": f"user:{BOB}", "code": "forbidden"}


async def test_a_feed_that_is_away_is_told_as_such(certificates: Certificates) -> None:
    async with live(certificates, hub_limits=HubLimits(state_s=0.1)) as server:
        server.feed.mute = True
        async with server.open() as client:
            await client.connect()
            reply = await client.ask("subscribe", channel="leaderboard")
            assert (reply["code"], reply["retryable"]) == ("unavailable", True)
            assert reply["retryAfterMs"] > 0

            server.feed.mute = False
            assert (await client.ask("subscribe", channel=BOARD))["type"] == "subscribed"


async def test_unsubscribing_what_is_not_subscribed_is_an_error(server: Live) -> None:
    async with server.open() as client:
        await client.connect()
        assert (await client.ask("unsubscribe", channel=BOARD))["code"] == "not_subscribed"


async def test_a_closed_socket_leaves_its_channels(certificates: Certificates) -> None:
    async with live(certificates, hub_limits=HubLimits(linger_s=0.05)) as server:
        async with server.open() as client:
            await client.connect("leaderboard", token="ada")

        async def left() -> bool:
            return {("-", BOARD), ("-", f"user:{ADA}")} <= set(server.feed.interests())

        await eventually(left)


# ---- the handshake's refusals ----


async def test_a_foreign_origin_is_refused_before_the_upgrade(server: Live) -> None:
    for origin in ("https://evil.example", "null", "https://board.example.evil.example"):
        assert await status_of(server, Origin=origin) == (403, None)
    async with server.open(origin="https://board.example") as client:
        assert (await client.connect())["type"] == "welcome"


async def test_unknown_versions_only_are_refused_and_none_means_the_first(server: Live) -> None:
    protocol = "Sec-WebSocket-Protocol"
    assert (await status_of(server, **{protocol: "scoreboard.v9.json"}))[0] == 400
    for offered in ((), ("scoreboard.v9.json", "scoreboard.v1.json")):
        async with server.open(protocols=offered) as client:
            assert (await client.connect())["type"] == "welcome"


async def test_handshakes_have_a_rate(certificates: Certificates) -> None:
    async with (
        live(certificates, limits=LiveLimits(handshakes_per_s=2)) as server,
        server.open(),
        server.open(),
    ):
        assert await status_of(server) == (429, "1")


async def test_a_full_process_takes_no_more(certificates: Certificates) -> None:
    async with (
        live(certificates, limits=LiveLimits(sockets_per_process=1)) as server,
        server.open() as client,
    ):
        await client.connect()
        assert await status_of(server) == (503, "5")


async def test_compression_is_not_negotiated(server: Live) -> None:
    async with server.open(compress=15) as client:
        assert not client.ws.compress


# ---- tokens and their end ----


@pytest.mark.parametrize(
    ("token", "code"), [("forged", 4500), ("expired", 4005), ("banned", 4503), ("robot", 4507)]
)
async def test_a_token_that_does_not_serve_closes_with_its_code(
    server: Live, token: str, code: int
) -> None:
    async with server.open() as client:
        await client.send("connect", token=token)
        assert await client.end() == code


async def test_an_undecodable_bearer_protocol_is_a_bad_token(server: Live) -> None:
    async with server.open(protocols=("scoreboard.bearer.!", "scoreboard.v1.json")) as client:
        await client.send("connect", token="ada")
        assert await client.end() == 4500


async def test_expiry_is_announced_and_then_enforced(certificates: Certificates) -> None:
    async with (
        live(certificates, limits=LiveLimits(tick_s=0.02)) as server,
        server.open() as client,
    ):
        await client.connect(token="ada:90")
        with clock.ahead(35):
            expiring = await client.next()
            assert expiring["type"] == "tokenExpiring"
            assert 50_000 < expiring["expiresInMs"] <= 55_000
        with clock.ahead(90 + 24):
            assert (await client.ask("unsubscribe", channel="x"))["type"] == "error"
        with clock.ahead(90 + 26):
            assert await client.end() == 4005


async def test_refresh_extends_the_session(certificates: Certificates) -> None:
    async with (
        live(certificates, limits=LiveLimits(tick_s=0.02)) as server,
        server.open() as client,
    ):
        await client.connect(token="ada:30")
        assert (await client.next())["type"] == "tokenExpiring"
        assert (await client.ask("refresh", token="ada:3600"))["type"] == "ok"
        with clock.ahead(600):
            await asyncio.sleep(0.1)
            assert (await client.ask("unsubscribe", channel="x"))["type"] == "error"


@pytest.mark.parametrize(("token", "code"), [("bob", 4500), ("forged", 4500), ("expired", 4005)])
async def test_refresh_with_another_or_a_bad_token_closes(
    server: Live, token: str, code: int
) -> None:
    async with server.open() as client:
        await client.connect(token="ada")
        await client.send("refresh", token=token)
        assert await client.end() == code


async def test_there_is_nothing_to_refresh_without_a_session(server: Live) -> None:
    async with server.open() as client:
        await client.connect()
        assert (await client.ask("refresh", token="ada"))["code"] == "unauthorized"


async def test_a_revoked_user_is_closed_and_nobody_else(server: Live) -> None:
    async with server.open() as ada, server.open() as bob, server.open() as anyone:
        for client, token in ((ada, "ada"), (bob, "bob"), (anyone, None)):
            await client.connect(token=token)
        server.handler.revoke(ADA)
        assert await ada.end() == 4503
        for client in (bob, anyone):
            assert (await client.ask("unsubscribe", channel="x"))["type"] == "error"


# ---- frames ----


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("no json", "bad_frame"),
        ("[]", "bad_frame"),
        ('{"id": 7}', "bad_frame"),
        ('{"type": "sing", "id": 7}', "unknown_type"),
        ('{"type": "subscribe", "id": 7}', "bad_frame"),
        ('{"type": "subscribe", "id": 7, "channel": 1}', "bad_frame"),
        ('{"type": "subscribe", "id": 7, "channel": "x", "more": 1}', "bad_frame"),
        ('{"type": "subscribe", "id": 0, "channel": "x"}', "bad_frame"),
        ('{"type": "subscribe", "id": 2147483648, "channel": "x"}', "bad_frame"),
        ('{"type": "connect", "id": 7}', "bad_frame"),
        ('{"type": "ping", "t": "' + "1" * 50 + '"}', "bad_frame"),
        ('{"x": ' + "[" * 15_000, "bad_frame"),
        ('{"x": NaN, "type": "ping", "t": 1}', "bad_frame"),
    ],
)
async def test_bad_frames_are_told_and_the_third_closes(server: Live, text: str, code: str) -> None:
    async with server.open() as client:
        await client.connect()
        for _ in range(3):
            await client.ws.send_str(text)
            error = await client.next()
            assert (error["type"], error["code"]) == ("error", code)
            assert error.get("id") in (None, 7, 0, 2147483648)
        assert await client.end() == 4501


async def test_before_connect_nothing_else_is_heard(server: Live) -> None:
    async with server.open() as client:
        reply = await client.ask("subscribe", channel="leaderboard")
        assert reply["code"] == "bad_frame"
        assert (await client.connect())["type"] == "welcome"


async def test_a_binary_frame_closes(server: Live) -> None:
    async with server.open() as client:
        await client.ws.send_bytes(b"{}")
        assert await client.end() == 1003


async def test_a_message_above_16_kib_closes(server: Live) -> None:
    async with server.open() as client:
        await client.ws.send_str("x" * (16 * 1024 + 1))
        assert await client.end() == 1009


async def test_pings_of_both_kinds_are_answered(server: Live) -> None:
    async with server.open(autoping=False) as client:
        await client.connect()
        await client.send("ping", t=42)
        assert await client.next() == {"type": "pong", "t": 42}
        await client.ws.ping(b"hello")
        message = await client.ws.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"hello")


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


async def test_subscriptions_have_a_limit(certificates: Certificates) -> None:
    async with live(certificates, limits=LiveLimits(subscriptions=3)) as server:
        names = [f"leaderboard:b{n}" for n in range(4)]
        server.feed.boards |= {name: Board(name) for name in names}
        async with server.open() as client:
            await client.connect(*names[:2], token="ada")  # and the own channel
            reply = await client.ask("subscribe", channel=names[2])
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
    """A raw client that reads only when told, with a small window."""

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
    queue = QueueLimits(conflate_bytes=32 * 1024, blocked_s=30)
    limits = LiveLimits(queue=queue, send_buffer_bytes=4096)
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
        heard = []
        async with asyncio.timeout(10):
            async for _, payload in reading:
                heard.append(json.loads(payload))
                if heard[-1]["type"] == "snapshot":
                    break
        server.feed.publish()
        async with asyncio.timeout(10):
            after = json.loads((await anext(reading))[1])
        client.writer.close()

    deltas, snapshot = heard[:-1], heard[-1]
    assert offsets(deltas) == list(range(1, len(deltas) + 1)), "no hole before the snapshot"
    assert len(deltas) < 60
    assert (snapshot["reason"], snapshot["offset"]) == ("conflated", 100)
    assert snapshot["data"]["n"] == 100
    assert (after["type"], after["offset"]) == ("delta", 101)


async def test_many_small_frames_are_conflated_by_their_number(
    certificates: Certificates,
) -> None:
    queue = QueueLimits(conflate_frames=10, conflate_bytes=1 << 30, blocked_s=30)
    limits = LiveLimits(queue=queue, send_buffer_bytes=4096)
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)
        async with server.open() as lively:
            await lively.connect(BOARD)
            for _ in range(60):
                server.feed.publish(changes="z" * 4000)
                assert (await lively.next())["type"] == "delta"
        async with asyncio.timeout(10):
            async for _, payload in reading:
                if json.loads(payload)["type"] == "snapshot":
                    break
        client.writer.close()


async def test_a_reader_that_stays_blocked_is_closed(certificates: Certificates) -> None:
    queue = QueueLimits(conflate_bytes=8 * 1024, blocked_s=0.2, closing_s=3)
    limits = LiveLimits(queue=queue, send_buffer_bytes=4096)
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            server.feed.publish(changes="z" * 4000)
        await asyncio.sleep(0.5)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        last = (0, b"")
        async with asyncio.timeout(10):
            async for last in reading:
                if last[0] == 8:
                    break
        client.writer.close()
    assert last[0] == 8
    assert int.from_bytes(last[1][:2], "big") == 4008


async def test_what_cannot_be_conflated_closes_above_the_cap(certificates: Certificates) -> None:
    queue = QueueLimits(bytes_max=64 * 1024, blocked_s=30, closing_s=0.2)
    limits = LiveLimits(queue=queue, send_buffer_bytes=4096)
    async with live(certificates, limits=limits) as server:
        client = Stalled(server)
        await client.connect()
        reading = client.frames()
        await anext(reading)
        channel = await server.hub.hold(BOARD)
        (outlet,) = channel.subscribers
        closing = outlet
        while not closing.closing:  # type: ignore[attr-defined]
            closing.write(channel.snapshot_frame("gap"))  # type: ignore[attr-defined]

        async def gone() -> bool:
            return not channel.subscribers

        await eventually(gone)
        client.writer.close()


# ---- many sockets, and the end ----


async def test_two_hundred_sockets_get_the_same_bytes(certificates: Certificates) -> None:
    limits = LiveLimits(sockets_per_address=1000)
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
