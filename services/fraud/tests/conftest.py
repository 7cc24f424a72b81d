"""Fixtures of fraud's tests: its database, and one replica served on it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from chassis.ids import uuid7
from chassis.postgres import open_pool
from chassis.redis import Redis
from chassis.testing import Certificates
from services.fraud.tests.fraud_served import Fraud, open_fraud


@pytest.fixture(scope="session")
async def database(migrated: Callable[..., Awaitable[dict[str, str]]]) -> dict[str, str]:
    """The URLs of fraud's database: its own role's, and under "admin" the owner's."""
    return await migrated("fraud")


@pytest.fixture(scope="session")
async def pool(database: dict[str, str]) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database["fraud"]) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def _nothing_due(database: dict[str, str]) -> None:
    """Deletes what an earlier test left in the outbox; verdicts and sanctions stay."""
    connection = await asyncpg.connect(database["admin"])
    await connection.execute("TRUNCATE fraud.outbox")
    await connection.close()


@pytest.fixture
async def fraud(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates
) -> AsyncIterator[Fraud]:
    async with open_fraud(pool, redis, certificates) as opened:
        yield opened


@pytest.fixture
def user() -> str:
    """A player that no one has seen."""
    return uuid7()
