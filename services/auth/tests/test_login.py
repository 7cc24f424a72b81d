"""Logging in: the right password, every wrong one, and bans."""

import asyncio
import threading

import asyncpg
import pytest
from structlog.testing import capture_logs

from chassis import clock
from chassis.errors import Failed, Forbidden, Unauthenticated, Unavailable
from chassis.redis import Redis
from chassis.testing import Certificates, eventually
from services.auth.passwords import Bcrypt, StoredPassword, open_passwords
from services.auth.settings import DAY_S, HOUR_S
from services.auth.store import AuthStore
from services.auth.tests.auth_served import PASSWORD, Auth, open_auth, ring


async def failure(auth: Auth, username: str, password: str) -> tuple[type[Failed], str, str]:
    with pytest.raises(Failed) as caught:
        await auth.login(username, password)
    return type(caught.value), caught.value.code, caught.value.detail


async def test_the_right_password_opens_a_session_whichever_letters_are_capitals(
    auth: Auth,
) -> None:
    registered = await auth.register("Ada")

    session = await auth.login("aDA")

    assert session.user_id == registered.user_id
    assert session.username == "Ada"
    assert (await auth.claims(session))["sid"] != (await auth.claims(registered))["sid"]


async def test_a_login_is_noted_with_its_time_and_a_failed_one_is_not(
    auth: Auth, pool: asyncpg.Pool
) -> None:
    async def last_login_ms() -> int:
        at = await pool.fetchval("SELECT last_login_at FROM auth.users WHERE username = 'ada'")
        return int(at.timestamp() * 1000)

    session = await auth.register("ada")
    assert abs(await last_login_ms() - clock.now_ms()) < 30_000
    with clock.ahead(HOUR_S):
        await auth.login("ada")
        noted_ms = await last_login_ms()
        assert abs(noted_ms - clock.now_ms()) < 30_000
    with clock.ahead(2 * HOUR_S):
        await failure(auth, "ada", "not the password")
        await auth.refresh(session.refresh_token)
        assert await last_login_ms() == noted_ms


async def test_a_wrong_password_and_an_unknown_name_fail_alike(auth: Auth) -> None:
    await auth.register("ada")

    wrong = await failure(auth, "ada", "not the password")
    unknown = await failure(auth, "nobody", "not the password")
    impossible = await failure(auth, "no\x00body", "not the password")

    assert wrong == unknown == impossible
    assert wrong[:2] == (Unauthenticated, "INVALID_CREDENTIALS")


async def test_an_unknown_name_costs_as_much_hashing_as_a_wrong_password(auth: Auth) -> None:
    await auth.register("ada")

    await failure(auth, "ada", "not the password")
    await failure(auth, "nobody", "not the password")

    known, unknown = auth.hasher.compared
    assert known != unknown
    assert known[:7] == unknown[:7] == "$2b$04$"


async def test_passwords_that_share_their_first_72_bytes_do_not_match(auth: Auth) -> None:
    shared = "\U0001f511" * 63  # 252 bytes
    await auth.register("ada", shared + "a")

    assert (await failure(auth, "ada", shared + "b"))[1] == "INVALID_CREDENTIALS"
    await auth.login("ada", shared + "a")


async def test_what_follows_a_nul_character_counts(auth: Auth) -> None:
    await auth.register("ada", "harbour\x00at dawn")

    assert (await failure(auth, "ada", "harbour\x00at dusk"))[1] == "INVALID_CREDENTIALS"
    await auth.login("ada", "harbour\x00at dawn")


async def test_one_password_typed_on_two_keyboards_is_the_same(auth: Auth) -> None:
    await auth.register("ada", "cafe\u0301 at the harbour")

    await auth.login("ada", "caf\u00e9 at the harbour")


async def test_a_ban_is_reported_only_after_the_right_password(auth: Auth) -> None:
    session = await auth.register("ada")
    await auth.set_ban(session.user_id, banned=True, version=1)

    assert (await failure(auth, "ada", "not the password"))[1] == "INVALID_CREDENTIALS"
    assert (await failure(auth, "ada", PASSWORD))[:2] == (Forbidden, "ACCOUNT_BANNED")


async def test_a_ban_refuses_login_and_refresh_until_it_lifts_itself(auth: Auth) -> None:
    session = await auth.register("ada")
    await auth.set_ban(session.user_id, banned=True, version=1, lasts_s=DAY_S)

    with clock.ahead(23 * HOUR_S):
        assert (await failure(auth, "ada", PASSWORD))[1] == "ACCOUNT_BANNED"
        with pytest.raises(Forbidden, match="ACCOUNT_BANNED"):
            await auth.refresh(session.refresh_token)
    with clock.ahead(25 * HOUR_S):
        await auth.login("ada")
        await auth.refresh(session.refresh_token)


async def test_a_ban_for_good_lasts_until_a_newer_version_lifts_it(auth: Auth) -> None:
    session = await auth.register("ada")
    await auth.set_ban(session.user_id, banned=True, version=5)

    await auth.set_ban(session.user_id, banned=False, version=5)
    await auth.set_ban(session.user_id, banned=False, version=4)
    with clock.ahead(9000 * DAY_S):
        assert (await failure(auth, "ada", PASSWORD))[1] == "ACCOUNT_BANNED"

    await auth.set_ban(session.user_id, banned=False, version=6)
    await auth.login("ada")


async def test_a_ban_raises_the_version_that_later_tokens_carry(auth: Auth) -> None:
    session = await auth.register("ada")
    for _ in range(3):
        await auth.set_ban(session.user_id, banned=True, version=1)
    await auth.set_ban(session.user_id, banned=False, version=2)

    before = (await auth.claims(session))["ver"]
    after = (await auth.claims(await auth.login("ada")))["ver"]

    assert (before, after) == (1, 2)


async def test_failed_logins_and_bans_stand_in_the_security_log_without_secrets(
    auth: Auth,
) -> None:
    with capture_logs() as lines:
        session = await auth.register("ada")
        await failure(auth, "ada", "not the password")
        await failure(auth, "my-password-by-slip", "not the password")
        await auth.set_ban(session.user_id, banned=True, version=1)
        await failure(auth, "ada", PASSWORD)

    security = [line["event"] for line in lines if line.get("stream") == "security"]
    assert security == ["login_failed", "login_failed", "ban_set", "banned_user_refused"]
    text = repr(lines)
    for secret in (PASSWORD, "not the password", "my-password-by-slip"):
        assert secret not in text
    assert session.access_token not in text
    assert session.refresh_token.rpartition(".")[2] not in text


async def test_a_players_eleventh_session_ends_the_oldest_and_no_other_players(
    auth: Auth, redis: Redis
) -> None:
    stranger = await auth.register("ben")
    first = await auth.register("ada")
    others = await asyncio.gather(*(auth.login("ada") for _ in range(10)))

    with pytest.raises(Unauthenticated):
        await auth.refresh(first.refresh_token)
    for session in (*others, stranger):
        await auth.refresh(session.refresh_token)
    assert len(await redis.keys("{auth}:session:*")) == 11


async def test_a_login_counts_the_sessions_of_one_that_is_under_way(
    auth: Auth, database: dict[str, str]
) -> None:
    await auth.register("ada")
    other = await asyncpg.connect(database["admin"])
    try:
        async with other.transaction():
            # As a login does, but for nine sessions.
            await other.execute("SELECT FROM auth.users FOR NO KEY UPDATE")
            await other.execute(
                "INSERT INTO auth.sessions (sid, user_id, live_sha256, created_at, last_seen_at,"
                " expires_at, address, user_agent)"
                " SELECT gen_random_uuid(), user_id, live_sha256, now(), now(), expires_at, '', ''"
                " FROM auth.sessions, generate_series(1, 9)"
            )
            login = asyncio.create_task(auth.login("ada"))

            async def waits() -> bool:
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                return login.done() or bool(await other.fetchval(waiting))

            await eventually(waits)
        await login
        assert await other.fetchval("SELECT count(*) FROM auth.sessions") == 10
    finally:
        await other.close()


async def test_postgres_being_unavailable_is_reported_as_such(
    redis: Redis, signing_pem: str, certificates: Certificates
) -> None:
    # Nothing listens on port 1.
    cut_off = asyncpg.create_pool("postgresql://auth@127.0.0.1:1/auth", min_size=0)
    async with cut_off as pool, open_auth(pool, redis, signing_pem, certificates) as auth:
        assert (await failure(auth, "ada", PASSWORD))[:2] == (Unavailable, "DB_UNAVAILABLE")


async def test_a_login_renews_a_hash_made_with_an_older_pepper(
    pool: asyncpg.Pool, redis: Redis, signing_pem: str, certificates: Certificates
) -> None:
    async def login(*letters: str) -> None:
        keys = ring(*letters)
        async with open_auth(pool, redis, signing_pem, certificates, pepper=keys) as auth:
            await auth.login("ada")

    async with open_auth(pool, redis, signing_pem, certificates, pepper=ring("p")) as auth:
        await auth.register("ada")
    await login("p", "q")

    assert await pool.fetchval("SELECT pepper FROM auth.users") == 2
    await login("p", "q")


async def test_a_login_renews_a_hash_of_another_cost(auth: Auth, pool: asyncpg.Pool) -> None:
    await auth.register("ada")
    with open_passwords(Bcrypt(5), ring("p")) as passwords:
        stored = await passwords.hash(PASSWORD)
    await pool.execute("UPDATE auth.users SET password_hash = $1", stored.hashed)

    await failure(auth, "ada", "not the password")
    assert await pool.fetchval("SELECT password_hash FROM auth.users") == stored.hashed
    await auth.login("ada")

    assert (await pool.fetchval("SELECT password_hash FROM auth.users"))[:7] == "$2b$04$"
    await auth.login("ada")


async def test_a_renewed_hash_does_not_replace_that_of_a_changed_password(
    auth: Auth, store: AuthStore, pool: asyncpg.Pool
) -> None:
    session = await auth.register("ada")
    account = await store.user_by_name("ada")
    assert account
    new = StoredPassword("renewed", 1)

    await store.renew_password(session.user_id, old=StoredPassword("changed", 1), new=new)
    assert (await store.user_by_name("ada")) == account
    await store.renew_password(session.user_id, old=account.password, new=new)
    assert await pool.fetchval("SELECT password_hash FROM auth.users") == "renewed"


async def test_a_stored_hash_opens_nothing_without_its_pepper(
    pool: asyncpg.Pool, redis: Redis, signing_pem: str, certificates: Certificates
) -> None:
    async with open_auth(pool, redis, signing_pem, certificates, pepper=ring("p")) as auth:
        await auth.register("ada")
        await auth.login("ada")
    async with open_auth(pool, redis, signing_pem, certificates, pepper=ring("q")) as other:
        assert (await failure(other, "ada", PASSWORD))[1] == "INVALID_CREDENTIALS"


async def test_checks_beyond_the_limit_are_refused_at_once_and_room_comes_back() -> None:
    go = threading.Event()

    class Held(Bcrypt):
        def matches(self, secret: bytes, hashed: str) -> bool:
            go.wait(30)
            return super().matches(secret, hashed)

    with open_passwords(Held(4), ring("p"), workers=1, waiting_max=2) as passwords:
        waiting = [asyncio.create_task(passwords.verify("x", None)) for _ in range(3)]
        await asyncio.sleep(0)

        with pytest.raises(Unavailable) as caught:
            await passwords.verify("x", None)
        assert caught.value.code == "LOGIN_BUSY"
        assert caught.value.retry_after_s > 0

        # The one that a thread has begun keeps its place, one that waits gives it back.
        waiting[2].cancel()
        await asyncio.wait([waiting[2]])
        waiting[2] = asyncio.create_task(passwords.verify("x", None))
        await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*waiting) == [False, False, False]

        async def admitted() -> bool:
            return not await passwords.verify("x", None)

        assert await eventually(admitted)
