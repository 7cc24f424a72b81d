"""Fixtures of actions' tests: a database, and the service on it."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import asyncpg
import pytest

from chassis.postgres import open_pool
from chassis.testing import Certificates
from services.actions.tests.serving import Actions, CountingPool, cut_off_from, open_actions


@pytest.fixture(scope="session")
async def database(migrated: Callable[..., Awaitable[dict[str, str]]]) -> dict[str, str]:
    """The URLs of actions' database: its own role's, and under "admin" the owner's."""
    return await migrated("actions")


@pytest.fixture(scope="session")
async def pool(database: dict[str, str]) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database["actions"]) as opened:
        yield opened


@pytest.fixture
async def actions(pool: asyncpg.Pool, certificates: Certificates) -> AsyncIterator[Actions]:
    await pool.execute("DELETE FROM actions.incidents")
    async with open_actions(pool, certificates) as opened:
        yield opened


@pytest.fixture
async def cut_off(database: dict[str, str], certificates: Certificates) -> AsyncIterator[Actions]:
    """The service on a pool whose server is unavailable after the start."""
    async with cut_off_from(database, certificates) as opened:
        yield opened


@pytest.fixture
async def watched(
    pool: asyncpg.Pool, certificates: Certificates
) -> AsyncIterator[tuple[Actions, list[str]]]:
    """The service, and a list that grows with each query to Postgres."""
    counting = CountingPool(pool)
    async with open_actions(cast(asyncpg.Pool, counting), certificates) as opened:
        yield opened, counting.queries


@pytest.fixture
def type_name() -> str:
    """A name that no type has yet."""
    return f"TEST_{secrets.token_hex(6).upper()}"
