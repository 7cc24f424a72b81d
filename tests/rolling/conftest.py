"""Two replicas of every unit, which tests may restart one by one."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from deploy import databases
from local.servers import embedded as servers
from tests.rolling.replicas import Deployment, deployed


@pytest.fixture(scope="package")
async def deployment(
    tmp_path_factory: pytest.TempPathFactory, migrated: Callable[..., Awaitable[dict[str, str]]]
) -> AsyncIterator[Deployment]:
    """Each test leaves all replicas running."""
    urls = await migrated(*databases.UNITS)
    folder = tmp_path_factory.mktemp("replicas")
    folder.chmod(0o755)
    with servers.redis(folder / "redis") as redis:
        async with deployed(folder, database_urls=urls, redis_url=redis.url) as running:
            yield running
