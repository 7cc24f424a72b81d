"""A game that no one else plays, and a board of it alone, so that its whole content is given."""

import secrets
from collections.abc import Sequence
from typing import Any

from chassis.testing import eventually
from scoreboard_client import ApiError, Award, Client
from tests.journeys import shapes
from tests.journeys.ranking import Play, Ranking
from tests.people import administrator
from tests.suite import Suite

PLAYERS = 5
POINTS = (1, 2, 3)  # few, to stay below those who play for a place at the top


class Game:
    """Players, and action types that no one else plays, so that a whole board is given."""

    def __init__(self, players: Sequence[Client], types: dict[int, str]) -> None:
        self.players = players
        self.types = types  # points to action type
        self.plays: list[Play] = []

    async def play(self, *turns: tuple[int, int]) -> list[Award]:
        """Lets players, by number, be awarded so many points, one after the other."""
        awards = []
        for number, points in turns:
            player = self.players[number]
            action = await player.request_action(self.types[points])
            award = await player.complete(action, completion_time_ms=0)
            self.plays.append(Play(player.user_id, player.username, points, award.timestamp))
            awards.append(award)
        return awards

    def board(self, **more: Any) -> dict[str, Any]:
        """What makes a board of this game alone."""
        return {
            "board": f"test_{secrets.token_hex(5)}",
            "title": "Made by a test",
            "actionTypes": sorted(self.types.values()),
            **more,
        }


async def added(suite: Suite, board: dict[str, Any]) -> dict[str, Any]:
    """Adds a board, as an administrator; returns the answer."""
    async with administrator(suite, kind=shapes.Exacting) as admin:
        created: dict[str, Any] = await admin.call("POST", "/admin/boards", board)
    return created


async def expect_shown(reader: Client, board: str, ranking: Ranking) -> None:
    """Returns once the board is as it must be. Raises AssertionError."""
    # Seldom enough for a reader who is counted.
    await eventually(lambda: shows(reader, board, ranking), pause_s=0.3)


async def shows(reader: Client, board: str, ranking: Ranking) -> bool:
    """Whether the board is listed and is as it must be."""
    try:
        top = await reader.leaderboard(board, limit=100)
    except ApiError as refusal:
        if refusal.code != "BOARD_NOT_FOUND":
            raise
        return False
    assert (top["entries"], top["total"]) == (ranking.entries(), len(ranking.rows))
    assert (top["board"], top["degraded"]) == (board, False)
    return True
