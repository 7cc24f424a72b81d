"""Two replicas of every unit, which tests may restart one by one."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from deploy import databases
from tests.rolling.replicas import Deployment, deployed


@pytest.fixture
async def deployment(
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Callable[..., Awaitable[dict[str, str]]],
    redis_url: str,
) -> AsyncIterator[Deployment]:
    """Each test leaves all replicas running."""
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
    urls = await migrated(*databases.UNITS)
    folder = tmp_path_factory.mktemp("replicas")
    async with deployed(folder, database_urls=urls, redis_url=redis_url) as running:
        yield running
