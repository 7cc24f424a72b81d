"""Game servers and what staff undo, through the public API alone."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.testing import eventually
from scoreboard_client import ApiError, Client, GameServer, new_action_id
from tests.journeys import shapes
from tests.people import action_type, address, administrator, newcomer
from tests.suite import ROOT, Suite


@asynccontextmanager
async def arena(suite: Suite, *action_types: str) -> AsyncIterator[GameServer]:
    """A game server that may award these types, made as an operator makes one."""
    suite.processes()  # Skips where the suite is not ours.
    assert suite.data_dir is not None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.auth", "client", "create"),
        *("--name", f"arena-{secrets.token_hex(4)}", "--action-types", ",".join(action_types)),
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL_FILE": str(suite.data_dir / "secrets" / "auth_database_url"),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    made = dict(line.split(": ") for line in told.decode().splitlines())
    async with GameServer(
        suite.url, made["client_id"], made["client_secret"], headers=address()
    ) as server:
        yield server


@pytest.fixture
async def admin(unlimited: Suite) -> AsyncIterator[Client]:
    async with administrator(unlimited) as client:
        yield client


@pytest.fixture
async def ada(unlimited: Suite) -> AsyncIterator[Client]:
    async with newcomer(unlimited, kind=shapes.Exacting) as client:
        yield client


@pytest.fixture
async def raid(admin: Client) -> str:
    """The name of a type that only game servers award."""
    body = action_type(points=40) | {"authoritative": True}
    return str((await admin.call("POST", "/admin/action-types", body))["actionType"])


async def refusal(call: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as refused:
        await call
    return refused.value.status, refused.value.code


async def test_a_game_server_awards_once_whatever_it_repeats(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    action_id = new_action_id()
    async with arena(unlimited, raid) as server, arena(unlimited, raid) as other:
        first = await server.award(ada.user_id, raid, action_id=action_id)
        again = await server.award(ada.user_id, raid, action_id=action_id)
        stated = server.award(ada.user_id, raid, action_id=action_id, score_increment=41)
        changed = await refusal(stated)
        foreign = await refusal(other.award(ada.user_id, raid, action_id=action_id))
        more = await server.award(ada.user_id, raid)

    assert (first.old_score, first.new_score, first.user_id) == (0, 40, ada.user_id)
    assert again == first
    assert changed == foreign == (422, "IDEMPOTENCY_KEY_REUSED")
    assert more.new_score == 80
    assert await ada.receipt(action_id) == first


async def test_a_game_server_awards_its_types_to_players_and_nothing_else(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    async with arena(unlimited, raid) as server:
        assert await refusal(server.award(ada.user_id, "WIN_GAME")) == (403, "FORBIDDEN")
        unknown = await refusal(server.award(new_action_id(), raid))
        assert unknown == (404, "PLAYER_NOT_FOUND")
        too_much = await refusal(server.award(ada.user_id, raid, score_increment=41))
        assert too_much == (403, "SCORE_MISMATCH")
        assert await refusal(server.call("GET", "/me/scores")) == (403, "FORBIDDEN")
        body = {"actionId": new_action_id(), "userId": ada.user_id, "actionType": raid}
        assert await refusal(ada.call("POST", "/scores/award", body)) == (403, "FORBIDDEN")
        assert await refusal(ada.request_action(raid)) == (403, "ACTION_TYPE_AUTHORITATIVE")


async def test_of_many_repeats_at_once_one_is_awarded(
    unlimited: Suite, ada: Client, raid: str
) -> None:
    action_id = new_action_id()
    async with arena(unlimited, raid) as server:
        awards = await asyncio.gather(
            *(server.award(ada.user_id, raid, action_id=action_id) for _ in range(20))
        )

    assert {award.new_score for award in awards} == {40}
    assert [row["points"] async for row in ada.history()] == [40]


async def test_what_is_voided_and_restored_stands_in_the_ledger(
    unlimited: Suite, ada: Client, admin: Client, raid: str
) -> None:
    async with arena(unlimited, raid) as server:
        first, second = [await server.award(ada.user_id, raid) for _ in range(2)]
    order = {"userId": ada.user_id, "actionIds": [first.action_id], "reason": "a bot"}

    async def reverse(kind: str, **more: Any) -> Any:
        body = {**order, "dryRun": False, **more}
        answer = await admin.call("POST", f"/admin/scores/{kind}", body)
        assert shapes.misfits(answer, shapes.REVERSED) == []
        return answer

    asked = await reverse("void", dryRun=True)
    assert (asked["oldScore"], asked["newScore"], asked["dryRun"]) == (80, 40, True)
    voided = await reverse("void")
    assert (voided["oldScore"], voided["newScore"]) == (80, 40)
    assert [(row["originId"], row["points"]) for row in voided["rows"]] == [(first.action_id, -40)]
    assert (await reverse("void"))["rows"] == []

    async def shows(score: int) -> bool:
        return bool((await ada.place())["score"] == score)

    await eventually(lambda: shows(40))
    assert (await reverse("restore"))["newScore"] == 80
    await eventually(lambda: shows(80))
    kinds = [(row["kind"], row["points"]) async for row in ada.history()]
    assert kinds == [("restore", 40), ("void", -40), ("award", 40), ("award", 40)]
    assert await ada.receipt(second.action_id) == second


async def test_an_admin_s_repeat_under_a_key_gets_the_same_answer(
    ada: Client, admin: Client
) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    body = action_type(points=5)
    first = await admin.call("POST", "/admin/action-types", body, headers=headers)
    assert await admin.call("POST", "/admin/action-types", body, headers=headers) == first
    exists = await refusal(admin.call("POST", "/admin/action-types", body))
    assert exists == (409, "ACTION_TYPE_EXISTS")
    other = {**body, "points": 6}
    reused = await refusal(admin.call("POST", "/admin/action-types", other, headers=headers))
    assert reused == (422, "IDEMPOTENCY_KEY_REUSED")
