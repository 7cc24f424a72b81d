"""The people of the tests: players and administrators, each from an address of their own."""

import itertools
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from scoreboard_client import Client
from tests.operating import ordered
from tests.suite import Suite

PASSWORD = "correct horse battery"

# Begun anywhere, so that a second run against the same suite has addresses of its own too.
_numbers = itertools.count(random.randrange(2**15))


def address() -> dict[str, str]:
    """A header by which a trusted suite sees a caller in a /24 of its own."""
    number = next(_numbers) % 2**16
    return {"X-Forwarded-For": f"10.{number // 256}.{number % 256}.7"}


@asynccontextmanager
async def newcomer(
    suite: Suite, *, kind: type[Client] = Client, timeout_s: float = 15.0
) -> AsyncIterator[Client]:
    """A player who has just registered."""
    async with kind(suite.url, headers=address(), timeout_s=timeout_s) as client:
        await client.register(f"player-{secrets.token_hex(5)}", PASSWORD)
        yield client


@asynccontextmanager
async def administrator(suite: Suite, *, kind: type[Client] = Client) -> AsyncIterator[Client]:
    """The administrator, logged in."""
    username, password = suite.admin()
    async with kind(suite.url, headers=address()) as client:
        await client.login(username, password)
        yield client


async def game_server(suite: Suite, *action_types: str) -> tuple[str, str]:
    """Id and secret of a new game server, as the operator who makes it is shown them."""
    about = ("--name", "Made by a test", "--action-types", ",".join(action_types))
    code, said = await ordered(suite, "auth", "client", "create", *about)
    assert code == 0
    shown = dict(line.split(": ") for line in said.splitlines())
    return shown["client_id"], shown["client_secret"]


def action_type(*, points: int, max_open: int | None = None) -> dict[str, Any]:
    """What makes a new action type that takes no time to play."""
    return {
        "actionType": f"TEST_{secrets.token_hex(5).upper()}",
        "title": "Made by a test",
        "points": points,
        "minDurationMs": 0,
        "maxDurationMs": 60_000,
        "tokenTtlS": 300,
        "maxOpen": max_open,
    }


async def new_type(suite: Suite, *, points: int, max_open: int | None = None) -> str:
    """The name of a new action type that takes no time to play."""
    async with administrator(suite) as admin:
        body = action_type(points=points, max_open=max_open)
        created = await admin.call("POST", "/admin/action-types", body)
    return str(created["actionType"])
