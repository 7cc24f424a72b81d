"""Tests of issuing: what a player gets, and how many tokens may be open."""

import asyncio
import time

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Invalid
from chassis.testing import Certificates, eventually
from protos import actions_pb2 as pb
from services.actions.tests.players import Play, decode, new_user
from services.actions.tests.serving import Actions, codes, open_actions


async def test_a_player_gets_what_a_play_needs(actions: Actions) -> None:
    issued = (await actions.issue(new_user(), "COMPLETE_QUEST")).issued

    assert issued.action_id[14] == "7"
    assert issued.action_type == "COMPLETE_QUEST"
    assert issued.score_increment == 100
    assert (issued.min_duration_ms, issued.max_duration_ms) == (1000, 300_000)
    assert issued.expires_at_ms == issued.issued_at_ms + 330_000
    assert len(decode(issued.signing_key)) == 32
    assert len(decode(issued.nonce)) == 16


async def test_every_item_has_a_result_of_its_own(actions: Actions, type_name: str) -> None:
    await actions.create_type(type_name, authoritative=True)

    results = await actions.results(new_user(), "WIN_GAME", "no type", type_name, "NO_TYPE")

    assert codes(results) == [
        "issued",
        "ACTION_TYPE_UNKNOWN",
        "ACTION_TYPE_AUTHORITATIVE",
        "ACTION_TYPE_UNKNOWN",
    ]


async def test_a_batch_has_at_most_256_items_and_only_players(actions: Actions) -> None:
    with pytest.raises(Invalid, match="BATCH_TOO_LARGE"):
        await actions.results(new_user(), *["WIN_GAME"] * 257)
    with pytest.raises(Invalid):
        await actions.results("nobody", "WIN_GAME")


async def test_a_fourth_open_token_is_refused(actions: Actions) -> None:
    user = new_user()
    types = ["WIN_GAME", "COMPLETE_QUEST", "COMPLETE_LEVEL", "WIN_GAME"]

    results = await actions.results(user, *types)

    assert codes(results) == ["issued"] * 3 + ["TOO_MANY_PENDING"]
    assert codes(await actions.results(new_user(), "WIN_GAME")) == ["issued"]


async def race(
    pool: asyncpg.Pool, certificates: Certificates, user: str, *types: str, patient: bool
) -> list[str]:
    """The codes of fifty requests at once, to two replicas."""
    async with (
        open_actions(pool, certificates) as one,
        open_actions(pool, certificates) as other,
    ):
        results = await asyncio.gather(
            *(
                replica.results(user, types[n % len(types)], patient=patient)
                for n in range(25)
                for replica in (one, other)
            )
        )
    return [codes(result)[0] for result in results]


@pytest.mark.parametrize("patient", [False, True])
async def test_of_fifty_requests_at_once_to_two_replicas_exactly_three_get_a_token(
    pool: asyncpg.Pool, certificates: Certificates, *, patient: bool
) -> None:
    types = ("WIN_GAME", "COMPLETE_QUEST", "COMPLETE_LEVEL")

    found = await race(pool, certificates, new_user(), *types, patient=patient)

    assert sorted(found) == ["TOO_MANY_PENDING"] * 47 + ["issued"] * 3


@pytest.mark.parametrize(
    ("cap", "max_open", "refused"),
    [(7, 50, "DAILY_CAP_REACHED"), (None, 11, "TOO_MANY_PENDING"), (7, 3, None)],
)
async def test_of_fifty_requests_at_once_to_two_replicas_no_more_than_the_type_allows_get_a_token(
    actions: Actions,
    pool: asyncpg.Pool,
    certificates: Certificates,
    type_name: str,
    *,
    cap: int | None,
    max_open: int,
    refused: str | None,
) -> None:
    await actions.create_type(type_name, daily_cap=cap, max_open=max_open)

    found = await race(pool, certificates, new_user(), type_name, patient=False)

    assert found.count("issued") == min(cap or 50, max_open)
    if refused:
        assert set(found) == {"issued", refused}


async def test_fifty_requests_and_settlements_at_once_never_leave_more_than_three_open(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates
) -> None:
    user = new_user()
    async with open_actions(pool, certificates) as other:

        async def play(replica: Actions) -> int:
            (result,) = await replica.results(user, "WIN_GAME", patient=True)
            held = await pool.fetchval(
                "SELECT count(*) FROM actions.actions WHERE user_id = $1 AND state = 'requested'",
                user,
            )
            if result.HasField("issued"):
                await other.settle(Play(user, result.issued), awarded=True)
            return int(held)

        held = await asyncio.gather(*(play(one) for one in (actions, other) for _ in range(25)))

    assert max(held) <= 3
    assert await pool.fetchval(
        "SELECT count(*) FROM actions.actions WHERE user_id = $1 AND state = 'awarded'", user
    ) == await pool.fetchval("SELECT count(*) FROM actions.actions WHERE user_id = $1", user)


async def test_open_tokens_are_counted_as_they_are_once_the_players_lock_is_held(
    actions: Actions, database: dict[str, str]
) -> None:
    user = new_user()
    for play in [await actions.issue(user) for _ in range(3)]:
        await actions.settle(play, awarded=False)
    other = await asyncpg.connect(database["admin"])

    async def waited_for() -> bool:
        return bool(await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    try:
        async with other.transaction():
            await other.execute("SELECT FROM actions.players WHERE user_id = $1 FOR UPDATE", user)
            await other.execute(
                "UPDATE actions.actions SET state = 'requested' WHERE user_id = $1", user
            )
            issuing = asyncio.create_task(actions.results(user, "WIN_GAME"))
            await eventually(waited_for)
        assert codes(await issuing) == ["TOO_MANY_PENDING"]
    finally:
        await other.close()


async def test_batches_of_many_players_side_by_side_do_not_deadlock(
    actions: Actions, pool: asyncpg.Pool
) -> None:
    users = [new_user() for _ in range(30)]

    async def issue(order: list[str]) -> int:
        items = [pb.IssueItem(user_id=user, action_type="WIN_GAME") for user in order]
        reply = await actions.gateway.Issue(pb.IssueRequest(items=items))
        return codes(list(reply.results)).count("issued")

    issued = await asyncio.gather(*(issue(users[::step]) for step in (1, -1) * 4))

    assert sum(issued) == 90
    assert await pool.fetchval(
        "SELECT bool_and(held = 3) FROM (SELECT count(*) AS held FROM actions.actions"
        " WHERE user_id = ANY ($1) GROUP BY user_id) AS held",
        users,
    )


async def test_expired_and_settled_tokens_are_open_no_longer(actions: Actions) -> None:
    user = new_user()
    plays = [await actions.issue(user) for _ in range(3)]

    await actions.settle(plays[0], awarded=True)
    await actions.settle(plays[1], awarded=False)

    assert codes(await actions.results(user, *["WIN_GAME"] * 3)) == [
        "issued",
        "issued",
        "TOO_MANY_PENDING",
    ]
    with clock.ahead(331):
        assert codes(await actions.results(user, *["WIN_GAME"] * 3)) == ["issued"] * 3


async def test_a_completed_token_is_open_until_it_is_settled(actions: Actions) -> None:
    user = new_user()
    with clock.ahead(-6):
        plays = [await actions.issue(user) for _ in range(3)]
    await actions.complete(plays[0], plays[0].completion())

    assert codes(await actions.results(user, "WIN_GAME")) == ["TOO_MANY_PENDING"]


async def test_a_type_with_its_own_limit_counts_alone(actions: Actions, type_name: str) -> None:
    await actions.create_type(type_name, max_open=5)
    user = new_user()

    own = await actions.results(user, *[type_name] * 6)
    shared = await actions.results(user, *["WIN_GAME"] * 4)

    assert codes(own) == ["issued"] * 5 + ["TOO_MANY_PENDING"]
    assert codes(shared) == ["issued"] * 3 + ["TOO_MANY_PENDING"]


@pytest.mark.parametrize("awarded", [True, False])
async def test_a_settlement_lets_a_waiting_request_through(
    pool: asyncpg.Pool, certificates: Certificates, awarded: bool
) -> None:
    async with open_actions(pool, certificates, settle_wait_s=5) as actions:
        user = new_user()
        plays = [await actions.issue(user) for _ in range(3)]

        waiting = asyncio.create_task(actions.results(user, "WIN_GAME", patient=True))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        started = time.perf_counter()
        await actions.settle(plays[0], awarded=awarded)

        assert codes(await waiting) == ["issued"]
        assert time.perf_counter() - started < 4


async def test_a_settlement_by_another_replica_is_seen_before_refusing(
    actions: Actions, pool: asyncpg.Pool, certificates: Certificates
) -> None:
    async with open_actions(pool, certificates, settle_wait_s=0.5) as waiter:
        user = new_user()
        plays = [await waiter.issue(user) for _ in range(3)]
        waiting = asyncio.create_task(waiter.results(user, "WIN_GAME", patient=True))
        await asyncio.sleep(0.03)
        await actions.settle(plays[0], awarded=True)

        assert codes(await waiting) == ["issued"]


async def test_a_patient_request_waits_its_moment_and_holds_nothing(
    actions: Actions, pool: asyncpg.Pool
) -> None:
    user = new_user()
    await actions.results(user, *["WIN_GAME"] * 3)

    started = time.perf_counter()
    waiting = asyncio.create_task(actions.results(user, "WIN_GAME", patient=True))
    await asyncio.sleep(0.05)
    free = await pool.fetchval(
        "SELECT 1 FROM actions.players WHERE user_id = $1 FOR UPDATE NOWAIT", user
    )
    waited = await waiting

    assert free == 1
    assert codes(waited) == ["TOO_MANY_PENDING"]
    assert time.perf_counter() - started > 0.14


async def test_an_impatient_request_holds_no_other_up(
    pool: asyncpg.Pool, certificates: Certificates
) -> None:
    async with open_actions(pool, certificates, settle_wait_s=5) as actions:
        user = new_user()
        await actions.results(user, *["WIN_GAME"] * 3)

        started = time.perf_counter()
        refused = await actions.results(user, "WIN_GAME")

        assert codes(refused) == ["TOO_MANY_PENDING"]
        assert time.perf_counter() - started < 4


async def test_a_changed_number_of_open_tokens_counts_from_the_next_request_on(
    actions: Actions, type_name: str
) -> None:
    await actions.create_type(type_name, max_open=2)
    user = new_user()
    first = await actions.results(user, *[type_name] * 3)
    await actions.change_type(type_name, max_open=4)
    raised = await actions.results(user, *[type_name] * 3)
    await actions.change_type(type_name, max_open=None)
    shared = await actions.results(user, *[type_name] * 4)

    assert codes(first) == ["issued"] * 2 + ["TOO_MANY_PENDING"]
    assert codes(raised) == ["issued"] * 2 + ["TOO_MANY_PENDING"]
    assert codes(shared) == ["issued"] * 3 + ["TOO_MANY_PENDING"]


@pytest.mark.parametrize("patient", [False, True])
async def test_too_many_open_tokens_pass_with_the_first_of_them_to_expire(
    actions: Actions, type_name: str, *, patient: bool
) -> None:
    await actions.create_type(type_name, token_ttl_s=40)
    user = new_user()
    with clock.ahead(-9.5):
        await actions.results(user, "WIN_GAME", type_name)
    await actions.issue(user)

    refused = await actions.results(user, type_name, "WIN_GAME", patient=patient)
    with clock.ahead(28.5):
        at_last = await actions.results(user, "WIN_GAME", patient=patient)
    with clock.ahead(31):
        free = await actions.results(user, "WIN_GAME")

    assert {result.failure.retry_after_s for result in refused} <= {30, 31}
    assert at_last[0].failure.retry_after_s in (1, 2)
    assert codes(free) == ["issued"]


async def test_tokens_of_the_very_same_batch_pass_too(actions: Actions, type_name: str) -> None:
    await actions.create_type(type_name, token_ttl_s=40)

    results = await actions.results(new_user(), "WIN_GAME", type_name, "WIN_GAME", "WIN_GAME")

    assert [result.failure.retry_after_s for result in results] == [0, 0, 0, 40]
