"""Stores that answer but refuse writes: what players get meanwhile, and right after."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest
from redis.asyncio import Redis

from chassis.testing import eventually
from scoreboard_client import ApiError, Client
from tests import books
from tests.faults.load import GIVE_UP_S, claim
from tests.faults.test_flush import whole
from tests.people import PASSWORD, address, new_type, newcomer
from tests.suite import UNITS, Suite

NOTICED_S = 10.0  # a unit checks its stores every 2 s, the gateway the units
RECOVERED_S = 3.0
SERVICES = ("auth", "actions", "scores", "fraud")


class Logs:
    """What the units log from now on."""

    def __init__(self, suite: Suite) -> None:
        self._files = [suite.folder() / "logs" / f"{unit}.log" for unit in UNITS]
        self._sizes = [file.stat().st_size for file in self._files]

    def crashes(self) -> list[str]:
        """The lines of errors that no code expected."""
        texts = [
            file.read_bytes()[size:].decode()
            for file, size in zip(self._files, self._sizes, strict=True)
        ]
        return re.findall(r".*(?:_crashed|Traceback).*", "\n".join(texts))


@asynccontextmanager
async def watched(suite: Suite) -> AsyncIterator[None]:
    """Within it no process of the suite dies, and none crashes over a request."""
    logs = Logs(suite)
    before = _pids(suite)
    yield
    assert _pids(suite) == before
    assert logs.crashes() == []


def _pids(suite: Suite) -> dict[str, int]:
    return {unit: suite.processes()[unit]["pid"] for unit in UNITS}


async def refusal(request: Awaitable[Any]) -> tuple[int, str]:
    """Status and code of a refused request."""
    with pytest.raises(ApiError) as refused:
        await request
    return refused.value.status, refused.value.code


def reported(suite: Suite, **states: str) -> Callable[[], Awaitable[bool]]:
    """Whether `/health` says so of the stores, with the status that belongs to it."""
    status = 503 if "down" in states.values() else 200

    async def found() -> bool:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{suite.url}/health", headers=address()) as answer,
        ):
            body = await answer.json()
            return answer.status == status and states.items() <= body.items()

    return found


def succeeds(request: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[bool]]:
    """Whether the request is answered; fails the test for a refusal that is not a 503."""

    async def found() -> bool:
        try:
            await request()
        except ApiError as refused:
            if refused.status != 503:
                raise
            return False
        return True

    return found


@asynccontextmanager
async def read_only(suite: Suite, way: str) -> AsyncIterator[None]:
    """Postgres refuses writes: to sessions that are open, or to new ones while those are lost."""
    connection = await asyncpg.connect(
        suite.processes()["postgres"]["url"],
        server_settings={"default_transaction_read_only": "off"},
    )
    subject = "SYSTEM" if way == "sessions that are open" else "DATABASE postgres"

    async def apply(change: str) -> None:
        await connection.execute(f"ALTER {subject} {change}")
        await connection.execute("SELECT pg_reload_conf()")

    try:
        await apply("SET default_transaction_read_only = on")
        if way == "new sessions":
            await connection.fetch(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE usename = ANY ($1)",
                SERVICES,
            )
        yield
    finally:
        await apply("RESET default_transaction_read_only")
        await connection.close()


@pytest.mark.parametrize("way", ["sessions that are open", "new sessions"])
async def test_a_postgres_that_refuses_writes_is_down_and_every_unit_serves_right_after(
    mortal: Suite, way: str
) -> None:
    type_ = await new_type(mortal, points=7, max_open=10)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watched(mortal))
        ada = await stack.enter_async_context(newcomer(mortal))
        action = await ada.request_action(type_)
        headers = {"X-Action-Token": action.token, "Idempotency-Key": secrets.token_hex(8)}
        body = claim(ada, action)

        async def redeem() -> Any:
            return await ada.call("POST", "/scores/increment", body, headers=headers)

        async with read_only(mortal, way):
            assert await refusal(redeem()) == (503, "QUEUED_FOR_REPLAY")
            again = Client(mortal.url, headers=address())
            again = await stack.enter_async_context(again)
            assert await refusal(again.login(ada.username, PASSWORD)) == (503, "DB_UNAVAILABLE")
            assert await refusal(ada.request_action(type_)) == (503, "DB_UNAVAILABLE")
            assert (await ada.leaderboard())["board"] == "all_time"
            await eventually(reported(mortal, database="down", redis="up"), timeout_s=NOTICED_S)
            assert await refusal(redeem()) == (503, "QUEUED_FOR_REPLAY")

        for request in (
            lambda: again.login(ada.username, PASSWORD),
            lambda: ada.request_action(type_),
            redeem,
        ):
            await eventually(succeeds(request), timeout_s=RECOVERED_S)
        await eventually(reported(mortal, database="up", redis="up"), timeout_s=NOTICED_S)
        # None of the sessions that are left refuses anything.
        await asyncio.gather(*(again.login(ada.username, PASSWORD) for _ in range(8)))
        rows = await books.ledger(mortal, [ada.user_id])
        assert [(row.action_id, row.new_score) for row in rows] == [(action.action_id, 7)]


REFUSALS = {
    "READONLY": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "OOM": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "NOREPLICAS": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}


@asynccontextmanager
async def refusing(suite: Suite, code: str) -> AsyncIterator[None]:
    """Redis refuses writes with that code."""
    refuse, accept = REFUSALS[code]
    async with Redis.from_url(suite.processes()["redis"]["url"]) as redis:
        await redis.execute_command(*refuse)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            await redis.execute_command(*accept)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("code", REFUSALS)
async def test_a_redis_that_refuses_writes_is_down_and_costs_players_ranks_alone(
    mortal: Suite, code: str
) -> None:
    type_ = await new_type(mortal, points=7, max_open=10)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watched(mortal))
        ada = await stack.enter_async_context(newcomer(mortal))
        assert (await ada.leaderboard())["degraded"] is False

        async with refusing(mortal, code):
            action = await ada.request_action(type_)
            answer = await ada.complete(action, completion_time_ms=0)
            assert (answer.new_score, answer.rank) == (7, None)
            assert list(answer.warnings) == ["RANK_UNAVAILABLE"]
            # Redis holds what was before that award, so it is not what is shown.
            top = await ada.leaderboard(limit=100)
            assert top["degraded"]
            assert (ada.user_id, 7) in [(e["userId"], e["score"]) for e in top["entries"]]
            assert (await ada.place())["score"] == 7
            await stack.enter_async_context(newcomer(mortal))  # registers and logs in
            await eventually(reported(mortal, redis="down", database="up"), timeout_s=NOTICED_S)
            for _ in range(5):
                await ada.leaderboard()

        async def ranked() -> bool:
            action = await ada.request_action(type_)
            answer = await ada.complete(action, completion_time_ms=0)
            return answer.rank is not None and await whole(ada)

        await eventually(ranked, timeout_s=RECOVERED_S, pause_s=0.3)
        await eventually(reported(mortal, redis="up", database="up"), timeout_s=NOTICED_S)

        async def agree() -> bool:
            return await books.boards_agree(mortal)

        await eventually(agree, timeout_s=GIVE_UP_S)
