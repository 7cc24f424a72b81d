"""Reads of an added board: with one's own award at once, and not sent twice unchanged."""

from chassis.testing import eventually
from scoreboard_client import Client
from tests.faults.load import claim
from tests.journeys import shapes
from tests.journeys.game import Game, added, shows
from tests.journeys.ranking import Ranking, Rules
from tests.people import address
from tests.suite import Suite
from tests.wire import Reply, Wire, wired

PLAYS = 10


async def test_a_board_that_did_not_change_is_not_sent_again(unlimited: Suite, game: Game) -> None:
    board = game.board()
    await added(unlimited, board)
    await game.play((0, 2), (1, 3))
    path = f"/leaderboards/{board['board']}?limit=5"
    async with wired(unlimited) as wire, reader(unlimited) as visitor:
        await eventually(lambda: shows(visitor, board["board"], Ranking(Rules(), game.plays)))
        first = await wire.call("GET", path)
        tag = first.headers["ETag"]
        for shown in (tag, f"W/{tag}", f'"1-0123456789abcdef", {tag}', "*"):
            same = await wire.call("GET", path, headers={"If-None-Match": shown})
            assert (same.status, same.body, same.headers["ETag"]) == (304, b"", tag)

        await game.play((0, 3))  # on another connection

        newer = await eventually(lambda: changed(wire, path, tag))
        assert newer
        assert newer.json["entries"] == Ranking(Rules(), game.plays).entries()
        assert newer.headers["ETag"] != tag
        assert (await wire.call("GET", path, headers={"If-None-Match": tag})).status == 200


async def test_who_is_awarded_reads_it_on_the_same_connection_at_once(
    unlimited: Suite, game: Game
) -> None:
    board, player = game.board(), game.players[0]
    await added(unlimited, board)
    await game.play((0, 2), (1, 1))
    await eventually(lambda: shows(player, board["board"], Ranking(Rules(), game.plays)))
    path = f"/leaderboards/{board['board']}"
    async with wired(unlimited, player.access_token) as wire:
        for _ in range(PLAYS):
            action = await player.request_action(game.types[1])
            award = await wire.call(
                "POST",
                "/scores/increment",
                claim(player, action),
                headers={"X-Action-Token": action.token},
            )
            score = award.json["newScore"]
            top = await wire.call("GET", path)
            place = await wire.call("GET", f"{path}/players/me")
            main = await wire.call("GET", "/leaderboards/all_time/players/me")
            assert scores(top)[player.user_id] == score
            assert (place.json["score"], main.json["score"]) == (score, score)


async def changed(wire: Wire, path: str, tag: str) -> Reply | None:
    """The answer, once it is not the one with that tag."""
    answer = await wire.call("GET", path, headers={"If-None-Match": tag})
    return answer if answer.status == 200 else None


def scores(answer: Reply) -> dict[str, int]:
    """User id to score, of a board's page."""
    assert answer.status == 200, answer.body
    return {entry["userId"]: entry["score"] for entry in answer.json["entries"]}


def reader(suite: Suite) -> Client:
    """A client without an account."""
    return shapes.Exacting(suite.url, headers=address())
