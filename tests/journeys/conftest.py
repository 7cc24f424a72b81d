"""Where the journeys go, and a game for those that look at whole boards."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.journeys import shapes
from tests.journeys.game import PLAYERS, POINTS, Game
from tests.people import new_type, newcomer
from tests.suite import URL, Suite


@pytest.fixture(scope="package")
def anywhere(request: pytest.FixtureRequest) -> Suite:
    """The deployment that SCOREBOARD_URL names, else a suite that refuses none for a count.

    What uses it keeps within the default limits.
    """
    found: Suite = request.getfixturevalue("suite" if URL else "unlimited")
    return found


@pytest.fixture
async def game(anywhere: Suite) -> AsyncIterator[Game]:
    types = {points: await new_type(anywhere, points=points) for points in POINTS}
    async with AsyncExitStack() as stack:
        people = [newcomer(anywhere, kind=shapes.Exacting) for _ in range(PLAYERS)]
        yield Game([await stack.enter_async_context(person) for person in people], types)
