"""Registering: which names and passwords are taken, and which are refused."""

import asyncio

import asyncpg
import pytest

from chassis import clock
from chassis.errors import Conflict, Failed, Unprocessable
from chassis.redis import Redis
from services.auth.tests.auth_served import PASSWORD, Auth


async def refused(
    auth: Auth, username: str, password: str, email: str = ""
) -> set[tuple[str, str]]:
    """The field and code of each problem that a registration is refused for."""
    with pytest.raises(Unprocessable) as caught:
        await auth.register(username, password, email=email)
    assert caught.value.code == "VALIDATION_FAILED"
    assert all(error.detail for error in caught.value.errors)
    return {(error.field, error.code) for error in caught.value.errors}


async def test_a_new_player_gets_a_session(auth: Auth, redis: Redis) -> None:
    session = await auth.register("Ada_Lovelace", email="ada@example.org")

    assert session.username == "Ada_Lovelace"
    assert session.expires_in_s == 600
    claims = await auth.claims(session)
    assert claims["sub"] == session.user_id
    assert claims["roles"] == ["player"]


async def test_of_twenty_spellings_of_one_name_at_once_exactly_one_wins(auth: Auth) -> None:
    name = "scoreboard"
    spellings = [name[:cut].upper() + name[cut:] for cut in range(10)] * 2

    outcomes = await asyncio.gather(
        *(auth.register(spelling) for spelling in spellings), return_exceptions=True
    )

    refusals = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refusals) == 19
    assert {type(refusal) for refusal in refusals} == {Conflict}
    assert {refusal.code for refusal in refusals if isinstance(refusal, Failed)} == {
        "USERNAME_TAKEN"
    }


@pytest.mark.parametrize(
    "username",
    [
        "ab",
        "a" * 21,
        "",
        "with space",
        "Ünïcode",
        "<script>",
        "a\u202eb",
        "dot.dot",
        "a\x00b",
        "abc\n",
    ],
)
async def test_a_name_outside_the_rules_is_refused(auth: Auth, username: str) -> None:
    assert await refused(auth, username, PASSWORD) == {("username", "PATTERN")}


@pytest.mark.parametrize(
    "password",
    ["password", "Password1", "12345678", "qwertyuiop", "iloveyou", "\uff50assword"],
)
async def test_a_common_password_is_refused_with_the_reason(auth: Auth, password: str) -> None:
    assert await refused(auth, "ada", password) == {("password", "TOO_COMMON")}


async def test_the_name_as_password_is_refused_with_the_reason(auth: Auth) -> None:
    assert await refused(auth, "Lovelace", "loveLACE") == {("password", "SAME_AS_USERNAME")}


async def test_a_password_has_8_to_64_code_points(auth: Auth) -> None:
    assert await refused(auth, "ada", "k3y-r1n") == {("password", "TOO_SHORT")}
    assert await refused(auth, "ada", "\U0001f511" * 65) == {("password", "TOO_LONG")}
    assert await refused(auth, "ada", "\u0301" * 60_000) == {("password", "TOO_LONG")}

    await auth.register("ada", "\U0001f511" * 8)
    await auth.register("ben", "\U0001f511" * 64)


async def test_every_problem_is_reported_at_once(auth: Auth) -> None:
    assert await refused(auth, "a b", "short", "nobody") == {
        ("username", "PATTERN"),
        ("password", "TOO_SHORT"),
        ("email", "PATTERN"),
    }


async def test_a_registered_session_stands_in_redis_until_it_expires(
    auth: Auth, redis: Redis
) -> None:
    session = await auth.register("ada")

    sid = (await auth.claims(session))["sid"]
    kept = await redis.hgetall(f"{{auth}}:session:{sid}")
    assert kept[b"userId"] == session.user_id.encode()
    assert kept[b"address"] == b"192.0.2.7"
    left_ms = await redis.pttl(f"{{auth}}:session:{sid}")
    assert 13.9 * 86_400_000 < left_ms <= 14 * 86_400_000
    assert abs(int(kept[b"expiresAt"]) - clock.now_ms() - left_ms) < 5_000


async def test_redis_being_unavailable_fails_no_registration_login_or_refresh(
    auth_without_redis: Auth,
) -> None:
    await auth_without_redis.register("ada")
    session = await auth_without_redis.login("ada")
    await auth_without_redis.refresh(session.refresh_token)


async def test_nothing_that_opens_an_account_is_stored_readable(
    auth: Auth, database: dict[str, str]
) -> None:
    session = await auth.register("ada")

    connection = await asyncpg.connect(database["admin"])
    rows = await connection.fetch("SELECT u::text || s::text FROM auth.users u, auth.sessions s")
    await connection.close()
    secret = session.refresh_token.rpartition(".")[2]
    assert len(rows) == 1
    assert PASSWORD not in rows[0][0]
    assert secret not in rows[0][0]
    assert secret.encode().hex() not in rows[0][0]
