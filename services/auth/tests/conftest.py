"""Fixtures of auth's tests: an emptied database, and auth served on it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chassis.postgres import Database, open_pool
from chassis.redis import Redis
from chassis.testing import Certificates
from services.auth.store import AuthStore
from services.auth.tests.auth_served import Auth, open_auth


@pytest.fixture(scope="session")
def signing_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@pytest.fixture(scope="session")
async def database(migrated: Callable[..., Awaitable[dict[str, str]]]) -> dict[str, str]:
    """The URLs of auth's database: its own role's, and under "admin" the owner's."""
    return await migrated("auth")


@pytest.fixture(scope="session")
async def pool(database: dict[str, str]) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(database["auth"]) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def _empty(database: dict[str, str]) -> None:
    connection = await asyncpg.connect(database["admin"])
    await connection.execute("TRUNCATE auth.users, auth.clients CASCADE")
    await connection.close()


@pytest.fixture
async def auth(
    pool: asyncpg.Pool, redis: Redis, signing_pem: str, certificates: Certificates
) -> AsyncIterator[Auth]:
    async with open_auth(pool, redis, signing_pem, certificates) as opened:
        yield opened


@pytest.fixture
def store(pool: asyncpg.Pool) -> AuthStore:
    return AuthStore(Database(pool))


@pytest.fixture
async def auth_without_redis(
    pool: asyncpg.Pool, signing_pem: str, certificates: Certificates
) -> AsyncIterator[Auth]:
    """Auth whose Redis is unavailable: no one listens on port 1."""
    redis = Redis("redis://127.0.0.1:1")
    async with open_auth(pool, redis, signing_pem, certificates) as opened:
        yield opened
    await redis.aclose()
