"""Fixtures of chassis' tests: a gate before Redis."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from redis.asyncio.connection import parse_url

from chassis.tests.gate import Dial, Gate, gate_to


@pytest.fixture
def dial(redis_url: str) -> Dial:
    place: dict[str, Any] = dict(parse_url(redis_url))
    if "path" in place:
        return partial(asyncio.open_unix_connection, place["path"])
    return partial(asyncio.open_connection, place["host"], place["port"])


@pytest.fixture
async def gate(dial: Dial) -> AsyncIterator[Gate]:
    async with gate_to(dial) as opened:
        yield opened
