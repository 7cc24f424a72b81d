"""A scores service on real stores, for every test."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chassis.redis import Redis
from chassis.testing import Certificates
from services.scores.tests.scores_served import Scores, item, open_scores

__all__ = ["Scores", "item"]


@pytest.fixture(scope="session")
async def scores_database(migrated: Callable[..., Awaitable[dict[str, str]]]) -> dict[str, str]:
    return await migrated("scores")


@pytest.fixture
async def scores(
    scores_database: dict[str, str], redis: Redis, certificates: Certificates
) -> AsyncIterator[Scores]:
    """The service with empty stores, served over gRPC to a caller `gateway`."""
    async with open_scores(scores_database, redis, certificates) as opened:
        yield opened
