"""Who is let in to the live channel, for how long, and what may be said there."""

import asyncio
import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest
import structlog

from chassis import clock
from chassis.testing import Certificates
from gateway.live.hub import HubLimits
from gateway.live.limits import LiveLimits
from gateway.tests.feed import ADA, Live, live


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


async def test_what_is_no_websocket_is_refused(server: Live) -> None:
    async with server.client.get(f"{server.url}/ws/leaderboard") as answer:
        assert answer.status == 400
        assert (await answer.json())["code"] == "NO_WEB_SOCKET"


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
            assert (await client.call("unsubscribe", channel="x"))["type"] == "error"
        with clock.ahead(90 + 26):
            assert await client.end() == 4005


async def test_nothing_comes_before_the_welcome(certificates: Certificates) -> None:
    async with (
        live(
            certificates, limits=LiveLimits(tick_s=0.01), hub_limits=HubLimits(state_s=0.2)
        ) as server,
        server.open() as client,
    ):
        server.feed.mute = True  # so that the channels take their time
        await client.send("connect", token="ada:30")
        assert (await client.next())["type"] == "welcome"


async def test_refresh_extends_the_session(certificates: Certificates) -> None:
    async with (
        live(certificates, limits=LiveLimits(tick_s=0.02)) as server,
        server.open() as client,
    ):
        await client.connect(token="ada:30")
        assert (await client.next())["type"] == "tokenExpiring"
        assert (await client.call("refresh", token="ada:3600"))["type"] == "ok"
        with clock.ahead(600):
            await asyncio.sleep(0.1)
            assert (await client.call("unsubscribe", channel="x"))["type"] == "error"


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
        assert (await client.call("refresh", token="ada"))["code"] == "unauthorized"


async def test_a_revoked_user_is_closed_and_no_other(server: Live) -> None:
    async with server.open() as ada, server.open() as bob, server.open() as stranger:
        for client, token in ((ada, "ada"), (bob, "bob"), (stranger, None)):
            await client.connect(token=token)
        server.handler.revoke(ADA)
        assert await ada.end() == 4503
        for client in (bob, stranger):
            assert (await client.call("unsubscribe", channel="x"))["type"] == "error"


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
async def test_bad_frames_get_errors_and_the_third_closes(
    server: Live, text: str, code: str
) -> None:
    async with server.open() as client:
        await client.connect()
        for _ in range(3):
            await client.ws.send_str(text)
            error = await client.next()
            assert (error["type"], error["code"]) == ("error", code)
            assert error.get("id") in (None, 7, 0, 2147483648)
        assert await client.end() == 4501


async def test_before_connect_nothing_else_is_accepted(server: Live) -> None:
    async with server.open() as client:
        reply = await client.call("subscribe", channel="leaderboard")
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
