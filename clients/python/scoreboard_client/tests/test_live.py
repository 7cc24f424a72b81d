"""The live client against a server of ours that says what a real one may say."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSCloseCode, web
from aiohttp.test_utils import TestServer

from scoreboard_client.live import Board, Closed, Live, Personal

Script = Callable[[web.WebSocketResponse, dict[str, Any]], Awaitable[None]]
BOARD = "leaderboard:all_time"


def _entry(user: str, position: int, score: int, *, rank: int | None = None) -> dict[str, Any]:
    """A place of the window; `rank` where it is not the position."""
    return {
        "userId": user,
        "username": user,
        "position": position,
        "rank": rank or position,
        "score": score,
    }


def _subscribed(offset: int, entries: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "type": "subscribed",
        "id": 1,
        "channel": BOARD,
        "epoch": "e1",
        "offset": offset,
        "recovered": False,
        "snapshot": {"entries": entries, "total": len(entries)},
    } | more


def _delta(offset: int, *changes: dict[str, Any], removed: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "delta",
        "channel": BOARD,
        "epoch": "e1",
        "offset": offset,
        "event": "leaderboard.rank_change",
        "data": {"changes": list(changes), "removed": list(removed), "total": 2},
    }


@asynccontextmanager
async def _serving(*scripts: Script) -> AsyncIterator[str]:
    """A server that plays one script per connection, in turn."""
    waiting = iter(scripts)

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["scoreboard.v1.json"])
        await socket.prepare(request)
        await next(waiting)(socket, await socket.receive_json())
        await socket.close(code=WSCloseCode.GOING_AWAY)
        return socket

    app = web.Application()
    app.add_routes([web.get("/ws/leaderboard", handle)])
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def _take(live: Live, count: int) -> list[Board | Personal]:
    taken = []
    async with asyncio.timeout(10):
        async for event in live.events():
            taken.append(event)
            if len(taken) == count:
                break
    return taken


async def test_equal_ranks_stand_in_the_order_of_positions() -> None:
    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        first = _subscribed(4, [_entry("ada", 1, 50), _entry("bob", 2, 40), _entry("eve", 3, 30)])
        await socket.send_json({"type": "welcome", "subs": [first]})
        # Eve comes level before Bob does; then only the order changes, and no rank.
        level = (_entry("eve", 2, 50, rank=1), _entry("bob", 3, 50, rank=1))
        await socket.send_json(_delta(5, *level))
        turned = (_entry("eve", 1, 50), _entry("ada", 2, 50, rank=1))
        await socket.send_json(_delta(6, *turned))
        await socket.receive()

    async with _serving(script) as url:
        _, level, turned = await _take(Live(url), 3)

    assert isinstance(level, Board)
    assert isinstance(turned, Board)
    assert [(e["userId"], e["rank"]) for e in level.entries] == [("ada", 1), ("eve", 1), ("bob", 1)]
    assert [e["userId"] for e in turned.entries] == ["eve", "ada", "bob"]


async def test_deltas_move_the_board_and_repeats_do_not() -> None:
    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        first = _subscribed(4, [_entry("ada", 1, 50), _entry("bob", 2, 40)])
        await socket.send_json({"type": "welcome", "subs": [first]})
        await socket.send_json(_delta(5, _entry("bob", 1, 60), _entry("ada", 2, 50)))
        await socket.send_json(_delta(5, _entry("bob", 1, 61)))
        await socket.send_json(_delta(6, _entry("eve", 2, 55), removed=("ada",)))
        await socket.receive()

    async with _serving(script) as url:
        boards = [event for event in await _take(Live(url), 3) if isinstance(event, Board)]

    assert [[(e["userId"], e["score"]) for e in board.entries] for board in boards] == [
        [("ada", 50), ("bob", 40)],
        [("bob", 60), ("ada", 50)],
        [("bob", 60), ("eve", 55)],
    ]


async def test_a_lost_connection_is_taken_up_where_it_ended() -> None:
    connects = []

    async def first(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        connects.append(connect)
        await socket.send_json({"type": "welcome", "subs": [_subscribed(4, [_entry("a", 1, 5)])]})

    async def second(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        connects.append(connect)
        replay = [_delta(5, _entry("b", 1, 9), _entry("a", 2, 5))]
        recovered = _subscribed(5, [], recovered=True, replay=replay)
        await socket.send_json({"type": "welcome", "subs": [recovered]})
        await socket.receive()

    async with _serving(first, second) as url:
        boards = [event for event in await _take(Live(url), 2) if isinstance(event, Board)]

    assert connects[0]["subs"] == [{"channel": BOARD}]
    assert connects[1]["subs"] == [{"channel": BOARD, "since": {"epoch": "e1", "offset": 4}}]
    assert boards[1].recovered
    assert [e["userId"] for e in boards[1].entries] == ["b", "a"]


async def test_a_gap_is_repaired_by_subscribing_again() -> None:
    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        await socket.send_json({"type": "welcome", "subs": [_subscribed(4, [_entry("a", 1, 5)])]})
        await socket.send_json(_delta(6, _entry("a", 1, 7)))
        again = await socket.receive_json()
        assert again["type"] == "subscribe"
        assert again["since"] == {"epoch": "e1", "offset": 4}
        await socket.send_json(_subscribed(6, [_entry("a", 1, 7)]))
        await socket.receive()

    async with _serving(script) as url:
        boards = [event for event in await _take(Live(url), 2) if isinstance(event, Board)]

    assert [(board.offset, board.entries[0]["score"]) for board in boards] == [(4, 5), (6, 7)]


async def test_a_board_that_is_unavailable_is_subscribed_again() -> None:
    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        await socket.send_json({"type": "welcome", "subs": []})
        await socket.send_json({"type": "unsubscribed", "channel": BOARD, "code": "unavailable"})
        again = await socket.receive_json()
        assert (again["type"], again["channel"]) == ("subscribe", BOARD)
        refusal = {"type": "error", "code": "unavailable", "message": "", "retryable": True}
        await socket.send_json(refusal | {"id": again["id"]})
        assert (await socket.receive_json())["type"] == "subscribe"
        await socket.send_json(_subscribed(1, [_entry("a", 1, 5)]))
        await socket.receive()

    async with _serving(script) as url:
        (board,) = await _take(Live(url), 1)

    assert isinstance(board, Board)
    assert board.offset == 1


async def test_ones_own_events_come_beside_the_board() -> None:
    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        assert connect["token"] == "jwt"
        own = {"type": "subscribed", "channel": "user:u1", "recovered": False}
        subs = [_subscribed(0, []), own | {"snapshot": {"score": 5, "rank": 1, "version": 1}}]
        await socket.send_json({"type": "welcome", "subs": subs})
        event = {"channel": "user:u1", "event": "score.updated", "data": {"newScore": 9}}
        await socket.send_json({"type": "delta"} | event)
        gap = {"channel": "user:u1", "reason": "gap", "data": {"score": 12}}
        await socket.send_json({"type": "snapshot"} | gap)
        await socket.receive()

    async with _serving(script) as url:
        events = await _take(Live(url, token="jwt"), 4)

    assert events[1:] == [
        Personal("subscribed", {"score": 5, "rank": 1, "version": 1}),
        Personal("score.updated", {"newScore": 9}),
        Personal("snapshot", {"score": 12}),
    ]


async def test_pings_are_answered() -> None:
    answers = []

    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        await socket.send_json({"type": "ping", "t": 7})
        answers.append(await socket.receive_json())
        await socket.send_json({"type": "welcome", "subs": [_subscribed(0, [])]})
        await socket.receive()

    async with _serving(script) as url:
        await _take(Live(url), 1)

    assert answers == [{"type": "pong", "t": 7}]


async def test_a_final_close_code_ends_the_watching() -> None:
    async def script(socket: web.WebSocketResponse, connect: dict[str, Any]) -> None:
        await socket.close(code=4500)

    async with _serving(script) as url:
        with pytest.raises(Closed) as closed:
            await _take(Live(url), 1)

    assert closed.value.code == 4500
