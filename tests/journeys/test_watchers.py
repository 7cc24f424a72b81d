"""Watchers of boards of every kind: at rest they see what REST shows, in its order."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import pytest

from chassis.testing import eventually
from scoreboard_client import Client, GameServer, Live
from tests.journeys import shapes
from tests.journeys.game import POINTS, Game, added
from tests.people import address, administrator, game_server, new_type, newcomer
from tests.suite import Suite
from tests.watching import Watcher, watching

KINDS = tuple(
    product(
        ("sum", "best", "latest"),
        ("descending", "ascending"),
        ("first_to_reach", "shared", "dense"),
    )
)
SEED = 20261130
PLAYERS = 14  # more than a window shows
ROUNDS = 40  # stand for an hour of play
AT_ONCE = 4  # players of one round


@dataclass
class Crowd:
    """Players whom a game server awards, and an administrator who voids and restores, at random."""

    players: list[Client]
    types: dict[int, str]
    server: GameServer
    admin: Client
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    made: list[tuple[str, str]] = field(default_factory=list)  # player and action, in force
    voided: list[tuple[str, str]] = field(default_factory=list)

    async def go_on(self, rounds: int) -> None:
        """Awards to some players at a time, and now and then a void or a restore."""
        for _ in range(rounds):
            players = self.dice.sample(self.players, AT_ONCE)
            await asyncio.gather(*(self._award(player.user_id) for player in players))
            if self.dice.random() < 0.4 and self.made:
                await self._reverse("void", self.made, self.voided)
            if self.dice.random() < 0.2 and self.voided:
                await self._reverse("restore", self.voided, self.made)

    async def _award(self, user_id: str) -> None:
        award = await self.server.award(user_id, self.types[self.dice.choice(POINTS)])
        self.made.append((user_id, award.action_id))

    async def _reverse(
        self, kind: str, chosen_from: list[tuple[str, str]], moved_to: list[tuple[str, str]]
    ) -> None:
        chosen = chosen_from.pop(self.dice.randrange(len(chosen_from)))
        user_id, action_id = chosen
        order = {"userId": user_id, "actionIds": [action_id], "reason": "test", "dryRun": False}
        done = await self.admin.call("POST", f"/admin/scores/{kind}", order)
        assert len(done["rows"]) == 1
        moved_to.append(chosen)


@pytest.fixture
async def crowd(unlimited: Suite) -> AsyncIterator[Crowd]:
    types = {points: await new_type(unlimited, points=points) for points in POINTS}
    client_id, secret = await game_server(unlimited, *types.values())
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        players = [await enter(newcomer(unlimited)) for _ in range(PLAYERS)]
        server = await enter(GameServer(unlimited.url, client_id, secret, headers=address()))
        yield Crowd(players, types, server, await enter(administrator(unlimited)))


async def test_at_rest_watchers_of_boards_of_every_kind_see_the_list_that_rest_shows(
    unlimited: Suite, crowd: Crowd
) -> None:
    game, boards = Game(crowd.players, crowd.types), {}
    for operator, order, ties in KINDS:
        board = game.board(operator=operator, order=order, ties=ties)
        await crowd.admin.call("POST", "/admin/boards", board)
        boards[board["board"]] = f"{operator} {order} {ties}"
    channels = tuple(f"leaderboard:{board}" for board in boards)

    def line() -> Live:
        return Live(unlimited.url, boards=channels, headers=address())

    async with (
        shapes.Exacting(unlimited.url, headers=address()) as reader,
        watching(line()) as early,
    ):
        await crowd.go_on(ROUNDS // 2)
        async with watching(line()) as late:
            await crowd.go_on(ROUNDS // 2)
            for watcher in (early, late):
                await eventually(partial(same, reader, watcher, boards), timeout_s=5)


async def test_a_board_can_be_watched_as_soon_as_it_is_made(anywhere: Suite, game: Game) -> None:
    board = (await added(anywhere, game.board()))["board"]
    line = Live(anywhere.url, boards=(f"leaderboard:{board}",), headers=address())

    async with watching(line) as watcher:
        await game.play((0, 1))
        await watcher.board(lambda shown: shown.total == 1)


async def same(reader: Client, watcher: Watcher, boards: dict[str, str]) -> bool:
    """Whether the watcher has every board as REST shows it, its order included.

    Raises AssertionError with the kinds of those that differ.
    """
    seen = {board.channel: board for board in watcher.boards}
    differing = []
    for board, kind in boards.items():
        page = await reader.leaderboard(board, limit=10)
        mine = seen.get(f"leaderboard:{board}")
        expected = (rows(page["entries"]), page["total"])
        if mine is None or (rows(mine.entries), mine.total) != expected:
            differing.append(kind)
    assert differing == []
    return True


def rows(entries: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What both have of an entry, in their order."""
    return [(e["position"], e["rank"], e["userId"], e["username"], e["score"]) for e in entries]
