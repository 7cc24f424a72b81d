"""Awards voided and restored: previewed, then done, and undone without a trace on the boards."""

from collections.abc import Sequence
from typing import Any

import pytest

from scoreboard_client import ApiError, Client
from tests.journeys import shapes
from tests.journeys.game import Game, added, expect_shown
from tests.journeys.ranking import Ranking, Rules
from tests.journeys.refusals import refusal
from tests.people import administrator
from tests.suite import Suite

# Three end level, in another order than that in which they began.
TURNS = ((0, 1), (1, 3), (0, 2), (2, 2), (2, 1), (3, 2))
REASON = "made by a test"


async def test_a_void_that_is_undone_leaves_ranks_and_ties_as_they_were(
    anywhere: Suite, game: Game
) -> None:
    board, ada = game.board(), game.players[0]
    await added(anywhere, board)
    awards = await game.play(*TURNS)
    before, name, voided = Ranking(Rules(), game.plays), board["board"], awards[2]
    await expect_shown(ada, name, before)
    order = await places(game.players[:4])
    chosen = {"userId": ada.user_id, "actionIds": [voided.action_id], "reason": REASON}
    async with administrator(anywhere, kind=shapes.Exacting) as admin:
        preview = await admin.call("POST", "/admin/scores/void", chosen | {"dryRun": True})
        assert gist(preview) == {"dryRun": True, "oldScore": 3, "newScore": 1, "more": False}
        assert [(row["kind"], row["originId"], row["points"]) for row in preview["rows"]] == [
            ("void", voided.action_id, -2)
        ]
        await expect_shown(ada, name, before)
        assert len(await ledger(ada)) == 2

        done = await admin.call("POST", "/admin/scores/void", chosen | {"dryRun": False})
        assert gist(done) == gist(preview) | {"dryRun": False}
        rest = game.plays[:2] + game.plays[3:]
        await expect_shown(ada, name, Ranking(Rules(), rest))
        assert (await ada.place())["score"] == 1
        rows = await ledger(ada)
        assert rows[0] == done["rows"][0]
        assert [(row["kind"], row["newScore"], row["version"]) for row in rows] == [
            ("void", 1, 3),
            ("award", 3, 2),
            ("award", 1, 1),
        ]
        again = await admin.call("POST", "/admin/scores/void", chosen | {"dryRun": False})
        assert again["rows"] == []

        back = await admin.call("POST", "/admin/scores/restore", chosen | {"dryRun": False})
        assert gist(back) == {"dryRun": False, "oldScore": 1, "newScore": 3, "more": False}
        await expect_shown(ada, name, before)
        assert await places(game.players[:4]) == order
        assert await ada.receipt(voided.action_id) == voided
        assert [row["kind"] for row in await ledger(ada)] == ["restore", "void", "award", "award"]


async def test_awards_are_voided_by_the_time_they_were_made(anywhere: Suite, game: Game) -> None:
    ada = game.players[0]
    awards = await game.play(*[(0, 1)] * 4)
    span = {"userId": ada.user_id, "from": awards[1].timestamp, "to": awards[3].timestamp}
    async with administrator(anywhere, kind=shapes.Exacting) as admin:
        done = await admin.call(
            "POST", "/admin/scores/void", span | {"reason": REASON, "dryRun": False}
        )
        assert [row["originId"] for row in done["rows"]] == [a.action_id for a in awards[1:3]]
        assert (await ada.place())["score"] == 2


async def test_who_has_no_award_in_force_is_on_no_board_until_the_next(
    anywhere: Suite, game: Game
) -> None:
    board, ada = game.board(), game.players[0]
    await added(anywhere, board)
    await game.play((1, 1), (0, 3), (0, 3))
    await expect_shown(ada, board["board"], Ranking(Rules(), game.plays))
    everything = {"userId": ada.user_id, "reason": REASON, "dryRun": False}
    async with administrator(anywhere, kind=shapes.Exacting) as admin:
        await admin.call("POST", "/admin/scores/void", everything)
    await expect_shown(ada, board["board"], Ranking(Rules(), game.plays[:1]))
    for name in (board["board"], "all_time", "daily"):
        assert await refusal(ada.place(name)) == (404, "NOT_RANKED")

    (award,) = await game.play((0, 2))

    assert (award.old_score, award.new_score, award.version) == (0, 2, 5)
    plays = [game.plays[0], game.plays[-1]]
    await expect_shown(ada, board["board"], Ranking(Rules(), plays))
    assert (await ada.place("daily"))["score"] == 2


async def test_only_administrators_void_and_they_say_why(anywhere: Suite, game: Game) -> None:
    ada = game.players[0]
    await game.play((0, 2))
    whole = {"userId": ada.user_id, "reason": REASON, "dryRun": False}
    for path in ("/admin/scores/void", "/admin/scores/restore"):
        assert await refusal(ada.call("POST", path, whole)) == (403, "FORBIDDEN")
    async with administrator(anywhere) as admin:
        for wrong in ({"reason": ""}, {"userId": "ada"}, {"from": "today"}, {"more": True}):
            call = admin.call("POST", "/admin/scores/void", whole | wrong)
            assert await refusal(call) == (422, "VALIDATION_FAILED"), wrong
    assert [row["kind"] for row in await ledger(ada)] == ["award"]


async def test_a_ledger_is_read_page_by_page_newest_first(anywhere: Suite, game: Game) -> None:
    ada = game.players[0]
    awards = await game.play(*[(0, 1)] * 5)
    rows: list[dict[str, Any]] = []
    query = "?limit=2"
    while query:
        page = await ada.call("GET", f"/me/scores{query}")
        assert len(page["rows"]) <= 2
        rows += page["rows"]
        if len(rows) == 2:  # what comes meanwhile is not on the pages behind
            await game.play((0, 3))
        query = f"?limit=2&cursor={page['nextCursor']}" if page["nextCursor"] else ""
    assert rows == [
        {
            "actionId": award.action_id,
            "kind": "award",
            "actionType": game.types[1],
            "points": award.score_increment,
            "oldScore": award.old_score,
            "newScore": award.new_score,
            "version": award.version,
            "timestamp": award.timestamp,
        }
        for award in reversed(awards)
    ]
    for cursor in ("x", "AAAA"):
        call = ada.call("GET", f"/me/scores?cursor={cursor}")
        assert await refusal(call) == (422, "VALIDATION_FAILED")
    with pytest.raises(ApiError, match="404"):
        await game.players[1].receipt(awards[0].action_id)


async def ledger(player: Client) -> list[dict[str, Any]]:
    """The player's own rows, newest first."""
    rows: list[dict[str, Any]] = (await player.call("GET", "/me/scores"))["rows"]
    return rows


async def places(players: Sequence[Client]) -> list[str]:
    """These players in the order that all_time has them in."""
    ranks = {player.user_id: (await player.place())["rank"] for player in players}
    return sorted(ranks, key=lambda user: ranks[user])


def gist(answer: dict[str, Any]) -> dict[str, Any]:
    """What an order to void or restore comes to, without the rows."""
    return {name: answer[name] for name in ("dryRun", "oldScore", "newScore", "more")}
