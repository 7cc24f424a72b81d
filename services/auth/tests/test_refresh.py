"""Refreshing: one successor for each token, and the end of a family whose old token is used."""

import asyncio
import hashlib
from datetime import timedelta

import asyncpg
import pytest
from structlog.testing import capture_logs

from chassis import clock
from chassis.errors import Forbidden, Unauthenticated
from chassis.ids import uuid7
from chassis.redis import Redis
from services.auth.settings import DAY_S
from services.auth.store import AuthStore, Device, Session
from services.auth.tests.auth_served import Auth
from services.auth.tokens import RefreshToken


async def refused(auth: Auth, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await auth.refresh(token)
    return caught.value.code


async def test_a_refresh_returns_a_new_pair_of_the_same_session(auth: Auth) -> None:
    session = await auth.register("ada")

    refreshed = await auth.refresh(session.refresh_token)

    assert refreshed.refresh_token != session.refresh_token
    assert refreshed.user_id == session.user_id
    assert refreshed.expires_in_s == 600
    assert (await auth.claims(refreshed))["sid"] == (await auth.claims(session))["sid"]


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.rpartition(".")[2].encode()).digest()


async def test_of_a_refresh_token_its_sha256_alone_is_stored(
    auth: Auth, pool: asyncpg.Pool
) -> None:
    first = await auth.register("ada")
    [row] = await pool.fetch("SELECT live_sha256, parent_sha256 FROM auth.sessions")
    assert tuple(row) == (_sha256(first.refresh_token), None)

    second = await auth.refresh(first.refresh_token)

    [row] = await pool.fetch("SELECT * FROM auth.sessions")
    assert row["live_sha256"] == _sha256(second.refresh_token)
    assert row["parent_sha256"] == _sha256(first.refresh_token)
    for session in (first, second):
        assert session.refresh_token.rpartition(".")[2] not in repr(dict(row))


async def test_a_refresh_token_is_opaque_and_of_the_agreed_form(auth: Auth) -> None:
    session = await auth.register("ada")
    refreshed = await auth.refresh(session.refresh_token)

    for token in (session.refresh_token, refreshed.refresh_token):
        version, sid, secret = token.split(".")
        assert (version, len(sid), len(secret)) == ("rt1", 36, 43)


async def test_twenty_refreshes_of_one_token_at_once_get_one_successor_that_lives(
    auth: Auth,
) -> None:
    session = await auth.register("ada")

    replies = await asyncio.gather(*(auth.refresh(session.refresh_token) for _ in range(20)))

    [successor] = {reply.refresh_token for reply in replies}
    assert len({reply.access_token for reply in replies}) == 20
    await auth.refresh(successor)


async def test_the_parent_shown_again_after_ten_seconds_ends_the_family(auth: Auth) -> None:
    session = await auth.register("ada")
    child = await auth.refresh(session.refresh_token)

    with clock.ahead(9):
        again = await auth.refresh(session.refresh_token)
        assert again.refresh_token == child.refresh_token
    with clock.ahead(11):
        assert await refused(auth, session.refresh_token) == "REFRESH_REUSED"
    assert await refused(auth, child.refresh_token) == "REFRESH_REUSED"


async def test_a_banned_player_s_parent_token_gets_no_successor_either(auth: Auth) -> None:
    parent = await auth.register("ada")
    await auth.refresh(parent.refresh_token)
    await auth.set_ban(parent.user_id, banned=True, version=1)

    with pytest.raises(Forbidden, match="ACCOUNT_BANNED"):
        await auth.refresh(parent.refresh_token)


async def test_a_session_that_ended_meanwhile_is_not_rotated(auth: Auth, store: AuthStore) -> None:
    session = await auth.register("ada")
    shown = RefreshToken.read(session.refresh_token)
    assert shown
    family = await store.family(shown.sid)
    assert family

    async def rotated() -> Session | None:
        return await store.rotate(
            shown.sid,
            family,
            successor_sha256=family.live_sha256,
            refresh_key=1,
            idle=timedelta(days=1),
            absolute=timedelta(days=1),
            device=Device(address="", user_agent=""),
        )

    assert await rotated()
    await store.end_session(shown.sid)
    assert await rotated() is None


def test_each_generation_has_a_successor_of_its_own_and_always_the_same() -> None:
    parent, key = RefreshToken.first(uuid7()), bytes(32)

    made = [parent.successor(key=key, generation=n).secret for n in (1, 2, 1)]
    made.append(parent.successor(key=bytes([1]) * 32, generation=1).secret)

    assert made[0] == made[2]
    assert len(set(made)) == 3


async def test_an_older_token_ends_the_family_at_once(auth: Auth, redis: Redis) -> None:
    oldest = await auth.register("ada")
    parent = await auth.refresh(oldest.refresh_token)
    live = await auth.refresh(parent.refresh_token)

    with capture_logs() as lines:
        assert await refused(auth, oldest.refresh_token) == "REFRESH_REUSED"

    for token in (live, parent, oldest):
        assert await refused(auth, token.refresh_token) == "REFRESH_REUSED"
    [alarm] = [line for line in lines if line.get("stream") == "security"]
    assert alarm["event"] == "refresh_reused"
    assert alarm["user_id"] == oldest.user_id
    assert await redis.keys("{auth}:session:*") == []


async def test_the_end_of_one_family_leaves_the_players_others_alone(auth: Auth) -> None:
    other = await auth.register("ada")
    oldest = await auth.login("ada")
    parent = await auth.refresh(oldest.refresh_token)
    await auth.refresh(parent.refresh_token)

    await refused(auth, oldest.refresh_token)

    await auth.refresh(other.refresh_token)


async def test_a_session_unused_for_fourteen_days_is_over(auth: Auth) -> None:
    session = await auth.register("ada")

    with clock.ahead(15 * DAY_S):
        assert await refused(auth, session.refresh_token) == "REFRESH_EXPIRED"


async def test_a_session_in_daily_use_is_over_after_thirty_days(auth: Auth) -> None:
    session = await auth.register("ada")

    for day in (10, 20, 29):
        with clock.ahead(day * DAY_S):
            session = await auth.refresh(session.refresh_token)
    with clock.ahead(31 * DAY_S):
        assert await refused(auth, session.refresh_token) == "REFRESH_EXPIRED"


async def test_a_refresh_keeps_the_session_in_redis_longer(auth: Auth, redis: Redis) -> None:
    session = await auth.register("ada")
    await redis.flushall()

    with clock.ahead(10 * DAY_S):
        await auth.refresh(session.refresh_token)

        sid = session.refresh_token.split(".")[1]
        kept = await redis.hgetall(f"{{auth}}:session:{sid}")
        assert abs(int(kept[b"expiresAt"]) - clock.now_ms() - 14 * DAY_S * 1000) < 5_000


@pytest.mark.parametrize(
    "token",
    [
        "",
        "rt1",
        "rt1.01890000-0000-7000-8000-000000000000." + "a" * 43,
        "rt1.01890000-0000-7000-8000-000000000000." + "a" * 42,
        "rt2.01890000-0000-7000-8000-000000000000." + "a" * 43,
        "rt1.' OR true --." + "a" * 43,
        "rt1.01890000-0000-7000-8000-000000000000." + "a" * 43 + "\n",
        "a.b.c",
    ],
)
async def test_what_is_no_living_sessions_token_is_refused(auth: Auth, token: str) -> None:
    assert await refused(auth, token) == "REFRESH_INVALID"


async def test_an_access_token_is_no_refresh_token(auth: Auth) -> None:
    session = await auth.register("ada")

    assert await refused(auth, session.access_token) == "REFRESH_INVALID"
