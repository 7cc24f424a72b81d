"""What a journey leaves in Redis: the table of operations.md has every key and says how it goes."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from chassis.redis import Redis, open_redis
from scoreboard_client import Live
from tests.journeys.game import Game, added
from tests.people import address, administrator
from tests.suite import Suite
from tests.watching import watching

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
async def left(game: Game, anywhere: Suite) -> AsyncIterator[Redis]:
    """Redis after awards, a board added, a void, and a watched board."""
    async with AsyncExitStack() as stack:
        ada = game.players[0]
        live = Live(anywhere.url, token=ada.access_token, headers=address())
        await stack.enter_async_context(watching(live))
        board = game.board(ties="dense", reset={"every": "day", "at": "00:00"})
        await added(anywhere, board)
        awards = await game.play((0, 3), (1, 2), (0, 1))
        admin = await stack.enter_async_context(administrator(anywhere))
        void = {
            "userId": game.players[1].user_id,
            "actionIds": [awards[1].action_id],
            "reason": "made by a test",
            "dryRun": False,
        }
        await admin.call("POST", "/admin/scores/void", void, headers={"Idempotency-Key": "a-test"})
        yield await stack.enter_async_context(open_redis(anywhere.processes()["redis"]["url"]))


async def test_every_key_has_a_row_and_expires_if_that_says_so(left: Redis) -> None:
    rows = table()
    keys = [key.decode() async for key in left.scan_iter(count=1000)]
    unknown, kept, expiring = [], [], []
    for key in keys:
        # The narrowest pattern is the key's own.
        fitting = sorted((p for p in rows if fnmatchcase(key, p)), key=len)
        ttl_s = await left.ttl(key)
        if not fitting:
            unknown.append(key)
        elif ttl_s == -1 and rows[fitting[-1]]:
            kept.append(key)
        elif ttl_s >= 0 and not rows[fitting[-1]]:
            expiring.append(key)

    assert (unknown, kept, expiring) == ([], [], [])
    assert len(keys) > 20


def test_a_row_of_the_table_says_whether_its_keys_expire() -> None:
    rows = table()

    assert len(rows) >= 20
    assert any(rows.values())
    assert not all(rows.values())


def table() -> dict[str, bool]:
    """The patterns of operations.md's table of keys: whether what fits expires."""
    text = OPERATIONS.read_text().partition("### Keys in Redis")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `([^`]+)`.*\| ([^|]+) \|$", text, re.MULTILINE)
    return {pattern: goes.startswith("expires") for pattern, goes in rows}
