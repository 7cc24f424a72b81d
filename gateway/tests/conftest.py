"""Fixtures of the gateway's tests: fake services, and a gateway before them."""

from collections.abc import AsyncIterator

import pytest

from chassis.redis import Redis
from chassis.testing import Certificates
from gateway.tests.edge import Edge, edge_of, edge_settings
from gateway.tests.services import Fakes, fake_services


@pytest.fixture(scope="package")
async def services(certificates: Certificates) -> AsyncIterator[Fakes]:
    async with fake_services(certificates) as fakes:
        yield fakes


@pytest.fixture
async def fakes(services: Fakes) -> AsyncIterator[Fakes]:
    """The fake services with nothing recorded and nothing changed."""
    services.reset()
    yield services
    services.reset()
    services.sanctions.clear()


@pytest.fixture(scope="package")
async def standing_edge(
    services: Fakes, certificates: Certificates, redis_url: str
) -> AsyncIterator[Edge]:
    async with edge_of(edge_settings(services, certificates, redis_url), services) as edge:
        yield edge


@pytest.fixture
async def edge(standing_edge: Edge, fakes: Fakes, redis: Redis) -> Edge:
    """A gateway with nothing counted and nothing recorded yet."""
    return standing_edge
