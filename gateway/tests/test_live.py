"""The live channel, spoken by a real client over a real socket."""

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from chassis.testing import Certificates, eventually
from gateway.live import channels
from gateway.live.hub import HubLimits
from gateway.tests.feed import ADA, BOARD, BOB, Board, Live, live


@pytest.fixture
async def server(certificates: Certificates) -> AsyncIterator[Live]:
    async with live(certificates) as running:
        yield running


def offsets(received: Sequence[dict[str, Any]]) -> list[int]:
    return [frame["offset"] for frame in received]


# ---- the main road ----


async def test_a_client_is_welcomed_with_the_board_and_then_sees_it_move(server: Live) -> None:
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


# ---- subscriptions and recovery ----


async def test_subscribe_and_unsubscribe_while_connected(server: Live) -> None:
    server.feed.boards["leaderboard:daily"] = Board("leaderboard:daily", epoch="d")
    async with server.open() as client:
        await client.connect()
        reply = await client.call("subscribe", channel="leaderboard:daily")
        assert (reply["type"], reply["channel"], reply["epoch"]) == (
            "subscribed",
            "leaderboard:daily",
            "d",
        )
        assert (await client.call("unsubscribe", channel="leaderboard:daily"))["type"] == "ok"
        server.feed.publish("leaderboard:daily")
        assert (await client.call("subscribe", channel="leaderboard"))["channel"] == BOARD


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
        welcome = await client.call("connect", subs=[{"channel": "leaderboard", "since": since}])
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
        welcome = await client.call("connect", subs=[{"channel": BOARD, "since": since}])

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
        small = await client.call("subscribe", channel=BOARD, since={"epoch": "e1", "offset": 28})
        large = await client.call("subscribe", channel=BOARD, since={"epoch": "e1", "offset": 1})

    assert offsets(small["replay"]) == [29, 30]
    assert "replay" not in large
    assert large["snapshot"]["n"] == 30


async def test_what_is_older_than_the_history_s_time_is_not_replayed(
    server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.open() as client:
        await client.connect(BOARD)
        server.feed.publish(count=2)
        since = {"epoch": "e1", "offset": (await client.next())["offset"]}
        await client.next()
        young = await client.call("subscribe", channel=BOARD, since=since)
        monkeypatch.setattr(channels, "HISTORY_S", 0.0)
        old = await client.call("subscribe", channel=BOARD, since=since)

    assert (young["recovered"], offsets(young["replay"])) == (True, [2])
    assert (old["recovered"], old["snapshot"]["n"]) == (False, 2)


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
        reply = await client.call("subscribe", channel=channel)

    assert (reply["type"], reply["code"], reply["retryable"]) == ("error", code, False)
    assert f"user:{BOB}" not in [name for _, name in server.feed.interests()]


async def test_channels_of_connect_that_cannot_be_are_reported_after_the_welcome(
    server: Live,
) -> None:
    async with server.open() as client:
        welcome = await client.connect("leaderboard", f"user:{BOB}", token="ada")
        refused = await client.next()

    assert [sub["channel"] for sub in welcome["subs"]] == [BOARD, f"user:{ADA}"]
    assert refused == {"type": "unsubscribed", "channel": f"user:{BOB}", "code": "forbidden"}


async def test_a_feed_that_is_unavailable_is_reported_as_such(certificates: Certificates) -> None:
    async with live(certificates, hub_limits=HubLimits(state_s=0.1)) as server:
        server.feed.mute = True
        async with server.open() as client:
            await client.connect()
            reply = await client.call("subscribe", channel="leaderboard")
            assert (reply["code"], reply["retryable"]) == ("unavailable", True)
            assert reply["retryAfterMs"] > 0

            server.feed.mute = False
            assert (await client.call("subscribe", channel=BOARD))["type"] == "subscribed"


async def test_unsubscribing_what_is_not_subscribed_is_an_error(server: Live) -> None:
    async with server.open() as client:
        await client.connect()
        assert (await client.call("unsubscribe", channel=BOARD))["code"] == "not_subscribed"


async def test_a_closed_socket_leaves_its_channels(certificates: Certificates) -> None:
    async with live(certificates, hub_limits=HubLimits(linger_s=0.05)) as server:
        async with server.open() as client:
            await client.connect("leaderboard", token="ada")

        async def left() -> bool:
            return {("-", BOARD), ("-", f"user:{ADA}")} <= set(server.feed.interests())

        await eventually(left)
