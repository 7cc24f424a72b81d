"""How sanctions are published: SanctionsSince, the stream, and SetBan at auth."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from redis.exceptions import RedisError

from chassis import clock
from chassis.errors import Unavailable
from chassis.ids import uuid7
from chassis.postgres import Database
from chassis.postgres.outbox import OutboxRelay
from chassis.process import background
from chassis.redis import Redis
from chassis.redis.stream import Bound, StreamWriter
from chassis.testing import Certificates, eventually, served
from protos import auth_pb2, auth_pb2_grpc
from protos.arrows import callers
from protos.auth_pb2_grpc import AuthStub
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction
from protos.streams import SANCTIONS
from services.fraud import evaluations
from services.fraud.sanctions import GENERATION, SanctionCache, open_relay, publish, send_bans
from services.fraud.sanctions_store import SanctionStore
from services.fraud.tests.fraud_served import Fraud, attempt, open_fraud

BOUND = Bound(entries_max=1000, bytes_max=2**24, kept_s=86400)


async def test_sanctions_since_returns_each_players_latest_by_rising_version(fraud: Fraud) -> None:
    before = max((sanction.version for sanction in await fraud.since(0)), default=0)
    first, second = uuid7(), uuid7()
    for user in (first, second):
        await fraud.burst(user)
    with clock.ahead(70):
        again = await fraud.burst(first)

    since = await fraud.since(before)

    assert [sanction.user_id for sanction in since] == [second, first]
    assert since[0].version < since[1].version
    assert since[1] == again.sanction
    assert await fraud.since(since[1].version) == []


async def test_sanctions_since_returns_at_most_a_thousand(fraud: Fraud) -> None:
    before = max((sanction.version for sanction in await fraud.since(0)), default=0)
    items = [attempt(user) for user in (uuid7() for _ in range(1020)) for _ in range(9)]
    for start in range(0, len(items), 252):
        await fraud.judge(*items[start : start + 252])

    page = await fraud.since(before)

    assert [sanction.version for sanction in page] == list(range(before + 1, before + 1001))
    assert len(await fraud.since(page[-1].version)) == 20


async def test_a_sanction_is_published_directly_after_its_commit(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    relay = _stream(pool, redis, pause_s=3600)
    async with _running(relay), open_fraud(pool, redis, certificates, relays=(relay,)) as fraud:
        verdict = await fraud.burst(user)
        (published,) = await eventually(partial(_published, redis, user))

    assert published == verdict.sanction


async def test_a_sanction_is_published_when_redis_comes_back(
    pool: asyncpg.Pool,
    redis: Redis,
    certificates: Certificates,
    user: str,
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with own_redis() as url:
        pass  # The address is free now; nothing listens there.
    unavailable = Redis(url)
    relay = _stream(pool, unavailable)
    async with unavailable, _running(relay):
        async with open_fraud(pool, redis, certificates, relays=(relay,)) as fraud:
            verdict = await fraud.burst(user)
        await eventually(partial(_tried, pool, user))
        with own_redis():
            (published,) = await eventually(partial(_published, unavailable, user))
    assert published == verdict.sanction


async def test_everything_is_published_again_after_redis_lost_its_data(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    relay = _stream(pool, redis)
    async with _running(relay), open_fraud(pool, redis, certificates, relays=(relay,)) as fraud:
        await fraud.burst(user)
        await eventually(partial(_published, redis, user))
        await eventually(partial(redis.exists, GENERATION))

        await redis.flushall()

        assert await eventually(partial(_published, redis, user))


async def test_a_flag_is_no_ban_to_auth(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    async with _auth(certificates, pool) as (auth, relay):
        async with open_fraud(pool, redis, certificates, relays=(relay,)) as fraud:
            await fraud.burst(user)
            banned = uuid7()
            await _ban(fraud, banned)
        # It is due by the moved clock, wherever the relay was when it was moved back.
        with clock.ahead(_BAN_AT_S):
            await eventually(partial(_taken, auth))

    assert {request.user_id for request in auth.taken} == {banned}


async def test_a_ban_is_sent_to_auth_until_it_is_acknowledged(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    async with _auth(certificates, pool, refusals=5) as (auth, relay):
        async with open_fraud(pool, redis, certificates, relays=(relay,)) as fraud:
            sanction = await _ban(fraud, user)
        # What is tried again is due by the moved clock.
        with clock.ahead(_BAN_AT_S):
            await eventually(partial(_taken, auth))
            await eventually(partial(_none_due, pool, "auth"))

    assert auth.refused == 5
    (ban,) = auth.taken
    assert (ban.user_id, ban.banned, ban.until_ms) == (user, True, sanction.until_ms)
    assert (ban.version, ban.reason) == (sanction.version, "burst")


async def test_a_ban_that_auth_refuses_does_not_hold_up_another(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    async with open_fraud(pool, redis, certificates) as fraud:
        for banned in (user, uuid7()):
            await _ban(fraud, banned)
    with clock.ahead(_BAN_AT_S):
        async with _auth(certificates, pool, never=user) as (auth, _):
            await eventually(partial(_taken, auth))

            assert await eventually(partial(_due, pool, "auth")) == [user]


async def test_an_older_sanction_never_replaces_a_newer_one(pool: asyncpg.Pool, user: str) -> None:
    sanctions = SanctionCache(SanctionStore(Database(pool)))
    newer = evaluations.Sanction(user, evaluations.Kind.BANNED, 8, 0)
    sanctions.add(newer)

    sanctions.add(evaluations.Sanction(user, evaluations.Kind.FLAGGED, 7, 0))

    assert sanctions.of(user) == newer


async def test_two_replicas_do_not_publish_the_same_sanction_at_the_same_time(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    async with open_fraud(pool, redis, certificates) as fraud:
        await fraud.burst(user)
    store = SanctionStore(Database(pool))

    claims = await asyncio.gather(*(store.claim("stream") for _ in range(4)))

    assert sorted(len(claim) for claim in claims) == [0, 0, 0, 1]
    with clock.ahead(1):
        (again,) = await store.claim("stream")
    assert again.attempts == 2


async def test_what_was_published_thirty_days_ago_is_deleted(
    pool: asyncpg.Pool, redis: Redis, certificates: Certificates, user: str
) -> None:
    store = SanctionStore(Database(pool))
    async with open_fraud(pool, redis, certificates) as fraud:
        await fraud.burst(user)
    (due,) = await store.claim("stream")
    await store.acknowledge("stream", [due.sanction.version])
    for days, kept in ((29, 1), (31, 0)):
        with clock.ahead(days * 86_400):
            await store.acknowledge("stream", [])
        assert await pool.fetchval("SELECT count(*) FROM fraud.outbox") == kept


_BAN_AT_S = 140


class RecordingAuth(auth_pb2_grpc.AuthServicer):
    """Takes bans, after refusing that many, and of player `never` none."""

    def __init__(self, refusals: int, never: str) -> None:
        self._refusals = refusals
        self._never = never
        self.refused = 0
        self.taken: list[auth_pb2.SetBanRequest] = []

    async def SetBan(self, request: auth_pb2.SetBanRequest, context: Any) -> auth_pb2.SetBanReply:
        if self.refused < self._refusals:
            self.refused += 1
            raise Unavailable
        if request.user_id == self._never:
            raise Unavailable
        self.taken.append(request)
        return auth_pb2.SetBanReply()


@asynccontextmanager
async def _auth(
    certificates: Certificates, pool: asyncpg.Pool, *, refusals: int = 0, never: str = ""
) -> AsyncIterator[tuple[RecordingAuth, OutboxRelay]]:
    """A recording auth, and a relay that sends it bans."""
    auth = RecordingAuth(refusals, never)
    async with served(
        "auth",
        partial(auth_pb2_grpc.add_AuthServicer_to_server, auth),
        certificates=certificates,
        callers=callers("auth"),
        caller="fraud",
    ) as channel:
        store = SanctionStore(Database(pool))
        deliver = partial(send_bans, AuthStub(channel))
        async with _running(open_relay(store, target="auth", deliver=deliver)) as relay:
            yield auth, relay


def _stream(pool: asyncpg.Pool, redis: Redis, *, pause_s: float = 0.1) -> OutboxRelay:
    store = SanctionStore(Database(pool))
    deliver = partial(publish, redis, StreamWriter(redis, SANCTIONS, BOUND), store)
    return open_relay(store, target="stream", deliver=deliver, pause_s=pause_s)


@asynccontextmanager
async def _running(relay: OutboxRelay) -> AsyncIterator[OutboxRelay]:
    async with background(relay.run()):
        yield relay


async def _published(redis: Redis, user: str) -> list[Sanction]:
    try:
        entries: Any = await redis.xrange(SANCTIONS)
    except RedisError:
        return []  # It is starting again.
    batches = [SanctionEvents.FromString(fields[b"batch"]) for _, fields in entries]
    return [s for batch in batches for s in batch.sanctions if s.user_id == user]


async def _tried(pool: asyncpg.Pool, user: str) -> bool:
    sql = "SELECT attempts > 0 AND done IS NULL FROM fraud.outbox WHERE user_id = $1"
    return bool(await pool.fetchval(sql, user))


async def _due(pool: asyncpg.Pool, target: str, *, count: int = 1) -> list[str] | None:
    """The players of what the target has not acknowledged, when there are that many."""
    sql = "SELECT user_id FROM fraud.outbox WHERE target = $1 AND done IS NULL"
    due = [str(row["user_id"]) for row in await pool.fetch(sql, target)]
    return due if len(due) == count else None


async def _none_due(pool: asyncpg.Pool, target: str) -> bool:
    return await _due(pool, target, count=0) is not None


async def _taken(auth: RecordingAuth) -> bool:
    return bool(auth.taken)


async def _ban(fraud: Fraud, user: str) -> Sanction:
    for at_s in (0, 70, _BAN_AT_S):
        with clock.ahead(at_s):
            verdict = await fraud.burst(user)
    assert verdict.sanction.kind == Sanction.BANNED
    return verdict.sanction
