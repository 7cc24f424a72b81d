"""A game for the journeys that look at whole boards."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.journeys import shapes
from tests.journeys.game import PLAYERS, POINTS, Game
from tests.people import new_type, newcomer
from tests.suite import Suite


@pytest.fixture
async def game(unlimited: Suite) -> AsyncIterator[Game]:
    types = {points: await new_type(unlimited, points=points) for points in POINTS}
    async with AsyncExitStack() as stack:
        people = [newcomer(unlimited, kind=shapes.Exacting) for _ in range(PLAYERS)]
        yield Game([await stack.enter_async_context(person) for person in people], types)
