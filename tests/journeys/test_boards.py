"""Boards that an administrator adds: their rules, kept over awards from before and after."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from scoreboard_client import ApiError, Client
from tests.journeys import shapes
from tests.journeys.game import Game, added, expect_shown
from tests.journeys.ranking import Ranking, Rules
from tests.journeys.refusals import refusal
from tests.people import address, administrator
from tests.suite import Suite

# Who plays for how many points, in turn. By every operator a player ends level with others whom
# they came before or after, in another order than the one they began in.
BEFORE = ((0, 2), (1, 2), (2, 1), (3, 3), (0, 1))
AFTER = ((1, 1), (2, 2), (4, 3), (3, 1), (4, 1))
SCORES = range(10)  # whose would-be ranks are requested: all that are there, and beyond

RULES = (
    Rules(operator="sum", order="descending", ties="first_to_reach"),
    Rules(operator="sum", order="descending", ties="dense"),
    Rules(operator="best", order="descending", ties="shared"),
    Rules(operator="best", order="ascending", ties="first_to_reach"),
    Rules(operator="latest", order="ascending", ties="dense"),
    Rules(operator="latest", order="descending", ties="shared"),
)


@pytest.mark.parametrize("rules", RULES, ids=lambda r: f"{r.operator}-{r.order}-{r.ties}")
async def test_a_board_ranks_by_its_rules_what_was_before_it_and_what_comes(
    anywhere: Suite, game: Game, rules: Rules
) -> None:
    await game.play(*BEFORE)
    board = game.board(operator=rules.operator, order=rules.order, ties=rules.ties)
    created = await added(anywhere, board)
    assert created.items() >= board.items()
    assert (created["reset"]["every"], created["public"]) == ("none", True)
    async with shapes.Exacting(anywhere.url, headers=address()) as visitor:
        await expect_shown(visitor, board["board"], Ranking(rules, game.plays))
        assert created in (await visitor.call("GET", "/leaderboards"))["boards"]

        await game.play(*AFTER)

        ranking = Ranking(rules, game.plays)
        await expect_shown(visitor, board["board"], ranking)
        await expect_pages(visitor, board["board"], ranking)
        await expect_places(visitor, board["board"], ranking)
        await expect_ranks(visitor, board["board"], ranking)


async def test_pages_go_on_where_they_were_while_others_move(anywhere: Suite, game: Game) -> None:
    board = game.board()
    await game.play((0, 3), (0, 1), (1, 3), (2, 2), (3, 2), (4, 1))
    await added(anywhere, board)
    path = f"/leaderboards/{board['board']}?limit=2"
    async with shapes.Exacting(anywhere.url, headers=address()) as visitor:
        await expect_shown(visitor, board["board"], Ranking(Rules(), game.plays))
        first = await visitor.call("GET", path)
        await game.play((4, 3), (4, 3))  # the last becomes the first

        second = await visitor.call("GET", f"{path}&cursor={first['nextCursor']}")

        shown = [entry["userId"] for entry in first["entries"] + second["entries"]]
        assert shown == [player.user_id for player in game.players[:4]]
        third = second["nextCursor"] and await visitor.call(
            "GET", f"{path}&cursor={second['nextCursor']}"
        )
        assert not third or third["entries"] == []
        forged = first["nextCursor"][:-4] + ("aaaa" if first["nextCursor"][-4:] != "aaaa" else "b")
        call = visitor.call("GET", f"{path}&cursor={forged}")
        assert await refusal(call) == (422, "VALIDATION_FAILED")


async def test_a_board_begins_again_by_the_clock_of_its_zone(anywhere: Suite, game: Game) -> None:
    zone = "Asia/Kolkata"  # where no clock is ever changed
    board = game.board(reset={"every": "day", "at": "05:45"}, zone=zone)
    await added(anywhere, board)
    await game.play((0, 2), (1, 3))
    async with shapes.Exacting(anywhere.url, headers=address()) as visitor:
        await expect_shown(visitor, board["board"], Ranking(Rules(), game.plays))
        top = await visitor.leaderboard(board["board"])

        ends = datetime.fromisoformat(top["resetsAt"])
        assert ends.astimezone(ZoneInfo(zone)).strftime("%H:%M:%S.%f") == "05:45:00.000000"
        assert timedelta() < ends - datetime.now(UTC) <= timedelta(days=1)
        begun = (ends - timedelta(days=1)).astimezone(UTC)
        assert top["period"] == f"{begun:%Y%m%dT%H%M%SZ}"
        same = await visitor.call("GET", f"/leaderboards/{board['board']}?period={top['period']}")
        assert same == top
        call = visitor.call("GET", f"/leaderboards/{board['board']}?period=20010101T000000Z")
        assert await refusal(call) == (404, "PERIOD_NOT_FOUND")


async def test_a_board_that_is_not_public_is_for_players(anywhere: Suite, game: Game) -> None:
    board = game.board(public=False)
    await added(anywhere, board)
    await game.play((0, 2))
    name, player = board["board"], game.players[0]
    await expect_shown(player, name, Ranking(Rules(), game.plays))
    async with shapes.Exacting(anywhere.url, headers=address()) as visitor:
        assert name not in [
            b["board"] for b in (await visitor.call("GET", "/leaderboards"))["boards"]
        ]
        assert name in [b["board"] for b in (await player.call("GET", "/leaderboards"))["boards"]]
        for call in (
            visitor.leaderboard(name),
            visitor.call("GET", f"/leaderboards/{name}/players/{player.user_id}"),
            visitor.call("POST", f"/leaderboards/{name}/ranks", {"userIds": [player.user_id]}),
            visitor.call("GET", f"/leaderboards/{name}/would-be?score=3"),
        ):
            assert (await refusal(call))[0] in (401, 404)


async def test_only_administrators_add_boards_and_only_such_as_make_sense(
    anywhere: Suite, game: Game
) -> None:
    board = game.board()
    assert await refusal(game.players[0].call("POST", "/admin/boards", board)) == (403, "FORBIDDEN")
    async with administrator(anywhere, kind=shapes.Exacting) as admin:
        for wrong in (
            {"operator": "median"},
            {"order": "sideways"},
            {"ties": "coin"},
            {"reset": {"every": "hour"}},
            {"reset": {"every": "day", "at": "24:00"}},
            {"zone": "Mars/Olympus"},
            {"window": 9},
            {"board": "No Name"},
        ):
            call = admin.call("POST", "/admin/boards", board | wrong)
            assert await refusal(call) == (422, "VALIDATION_FAILED"), wrong
        await admin.call("POST", "/admin/boards", board)
        assert (await refusal(admin.call("POST", "/admin/boards", board)))[0] == 409
        again = {**board, "operator": "median", "actionTypes": [*board["actionTypes"], "NO_SUCH"]}
        with pytest.raises(ApiError) as refused:
            await admin.call("POST", "/admin/boards", again)
        fields = {error["field"] for error in refused.value.errors}
        assert fields == {"operator", f"actionTypes[{len(board['actionTypes'])}]"}
        # A type that was made a moment ago counts, on whichever replica the call ends.
        made = f"MADE_{secrets.token_hex(5).upper()}"
        times = {"minDurationMs": 0, "maxDurationMs": 1000, "tokenTtlS": 60}
        new = {"actionType": made, "title": "Made by a test", "points": 1, **times}
        await admin.call("POST", "/admin/action-types", new)
        await admin.call("POST", "/admin/boards", game.board(actionTypes=[made]))
    call = game.players[0].leaderboard("none_such")
    assert await refusal(call) == (404, "BOARD_NOT_FOUND")


async def names(reader: Client) -> list[str]:
    """The boards that are listed to this reader."""
    return [board["board"] for board in (await reader.call("GET", "/leaderboards"))["boards"]]


async def expect_pages(reader: Client, board: str, ranking: Ranking) -> None:
    """Page after page is the whole board."""
    entries: list[dict[str, Any]] = []
    query = "?limit=2"
    while query:
        page = await reader.call("GET", f"/leaderboards/{board}{query}")
        assert len(page["entries"]) <= 2
        entries += page["entries"]
        query = f"?limit=2&cursor={page['nextCursor']}" if page["nextCursor"] else ""
    assert entries == ranking.entries()


async def expect_places(reader: Client, board: str, ranking: Ranking) -> None:
    """Every player's place is as it must be, however far one looks around."""
    rest = {"board": board, "period": "all", "degraded": False}
    for row in ranking.rows:
        for radius in (0, 1, 5):
            path = f"/leaderboards/{board}/players/{row.user_id}?radius={radius}"
            assert await reader.call("GET", path) == ranking.place(row, radius=radius) | rest


async def expect_ranks(reader: Client, board: str, ranking: Ranking) -> None:
    """Ranks of friends, of whom one is not there; and of scores that a player might reach."""
    users = [row.user_id for row in ranking.rows]
    stranger = users[0][:-12] + secrets.token_hex(6)
    found = await reader.call(
        "POST", f"/leaderboards/{board}/ranks", {"userIds": [*reversed(users), stranger]}
    )
    assert sorted(found["entries"], key=lambda e: users.index(e["userId"])) == ranking.entries()
    for score in SCORES:
        found = await reader.call("GET", f"/leaderboards/{board}/would-be?score={score}")
        assert (found["rank"], found["total"]) == (ranking.would_be(score), len(users)), score
