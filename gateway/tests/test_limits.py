"""How often callers may call: exactly that, at every edge, and also while Redis is unavailable."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Any

import aiohttp
import pytest

from chassis import clock
from chassis.redis import Redis, open_redis
from chassis.testing import Certificates, eventually
from gateway.edge.limits import Check, Limiter, Policy, RateLimited, RequestLimits
from gateway.edge.peers import KEY, Peers
from gateway.tests.edge import PROOF, UPDATE, Answered, Edge, edge_of, edge_settings
from gateway.tests.services import ADA, AT, BOB, Fakes
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction
from protos.streams import SANCTIONS

WANTED = {"actionType": "WIN_GAME"}
LIMITS = RequestLimits()
ACTIONS, REQUESTS, SCORES = LIMITS.actions, LIMITS.requests, LIMITS.scores


@pytest.fixture
async def limiter(redis: Redis) -> Limiter:
    return Limiter(redis, Peers(redis), disabled=False)


async def passes(limiter: Limiter, *checks: Check) -> bool:
    try:
        await limiter.take(checks)
    except RateLimited:
        return False
    return True


async def taken(limiter: Limiter, policy: Policy, count: int, user_id: str = ADA) -> int:
    """How many of `count` requests passed."""
    checks = Check(policy, user_id)
    return sum(await asyncio.gather(*(passes(limiter, checks) for _ in range(count))))


async def wait_s(limiter: Limiter, *checks: Check) -> int:
    with pytest.raises(RateLimited) as refused:
        await limiter.take(checks)
    return refused.value.retry_after_s


# ---- through the edge ----


async def test_of_a_hundred_at_once_exactly_ten_pass(edge: Edge) -> None:
    answers = await asyncio.gather(
        *(
            edge.play("/actions/request", WANTED, address=f"203.0.113.{number}")
            for number in range(100)
        )
    )

    assert sorted(a.status for a in answers) == [201] * 10 + [429] * 90
    refused = next(a for a in answers if a.status == 429)
    assert refused.code == "RATE_LIMITED"
    assert refused.json()["retryAfter"] == int(refused.headers["Retry-After"])
    assert refused.headers["RateLimit-Policy"] == (
        '"actions";q=10;w=60, "actions-hour";q=100;w=3600, "actions-day";q=500;w=86400'
    )
    assert refused.headers["RateLimit"].startswith('"actions";r=0;t=')
    assert len(edge.fakes.calls["Issue"]) == 10


async def test_retry_after_is_true(edge: Edge) -> None:
    for _ in range(10):
        assert (await edge.play("/actions/request", WANTED)).status == 201
    refused = await edge.play("/actions/token", WANTED)
    retry_after_s = int(refused.headers["Retry-After"])

    with clock.ahead(retry_after_s - 2):
        assert (await edge.play("/actions/request", WANTED)).status == 429
    with clock.ahead(retry_after_s):
        assert (await edge.play("/actions/request", WANTED)).status == 201


async def test_a_success_shows_what_is_left(edge: Edge) -> None:
    first = await edge.play("/actions/request", WANTED)
    second = await edge.play("/actions/request", WANTED)
    board = await edge.call("GET", "/api/v1/leaderboard")

    assert first.headers["RateLimit"] == '"actions";r=9;t=60'
    assert second.headers["RateLimit"].startswith('"actions";r=8;t=')
    assert board.headers["RateLimit-Policy"] == '"requests";q=100;w=60'
    assert board.headers["RateLimit"].startswith('"requests";r=97;t=')


async def redeem(edge: Edge, number: int, user_id: str) -> Answered:
    """A redemption by one of the three ways."""
    completion = {"actionToken": "v1.t", "proof": PROOF, "timestamp": AT}
    path, body = (
        ("/scores/update", UPDATE),
        ("/scores/increment", {"timestamp": AT, "proof": PROOF}),
        ("/actions/complete", completion),
    )[number % 3]
    return await edge.play(path, body, user_id)


async def test_the_three_ways_to_redeem_share_one_limit(edge: Edge) -> None:
    statuses = [(await redeem(edge, number, ADA)).status for number in range(12)]
    other = await redeem(edge, 0, BOB)
    without_token = await edge.play(
        "/actions/complete",
        {"actionId": ADA, "actionType": "X", "proof": PROOF, "timestamp": AT},
    )

    assert statuses == [200] * 10 + [429] * 2
    assert other.status == 200
    assert without_token.status == 200
    assert (await edge.play("/actions/request", WANTED)).status == 201


async def test_an_address_has_a_hundred_a_minute_for_all_callers_and_routes(edge: Edge) -> None:
    for _ in range(25):
        await edge.call("GET", "/api/v1/leaderboard")
        await edge.call("GET", "/nothing/here")
        await edge.call("POST", "/api/v1/scores/update", data=b"{")
        await edge.call("GET", "/api/v1/me/scores/x", token="bad")
    refused = await edge.call("GET", "/api/v1/leaderboard")

    assert (refused.status, refused.code) == (429, "RATE_LIMITED")
    assert refused.headers["RateLimit"].startswith('"requests";r=0')
    for path in ("/health", "/livez", "/readyz", "/.well-known/jwks.json"):
        assert (await edge.call("GET", path)).status == 200
    assert (await edge.call("GET", "/api/v1/leaderboard", address="203.0.113.1")).status == 200


async def test_a_thousand_addresses_of_one_64_share_a_bucket(edge: Edge) -> None:
    answers = await asyncio.gather(
        *(
            edge.call("GET", "/api/v1/leaderboard", address=f"2001:db8::{number:x}")
            for number in range(1000)
        )
    )

    assert [a.status for a in answers].count(200) == 100
    assert (await edge.call("GET", "/api/v1/leaderboard", address="2001:db8:0:1::1")).status == 200


async def test_what_one_limit_refuses_is_taken_from_none(edge: Edge) -> None:
    for _ in range(30):
        await edge.play("/actions/request", WANTED)
    board = await edge.call("GET", "/api/v1/leaderboard")

    # Ten issues and this one: the twenty that were refused cost the address nothing.
    assert board.headers["RateLimit"].startswith('"requests";r=89')


async def test_disabled_limits_count_but_refuse_nothing(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    settings = edge_settings(fakes, certificates, redis_url, limits="off")
    async with edge_of(settings, fakes) as edge:
        answers = [await edge.play("/actions/request", WANTED) for _ in range(60)]

    assert {a.status for a in answers} == {201}
    assert answers[0].headers["RateLimit"] == '"actions";r=9;t=60'
    (key,) = [key async for key in redis.scan_iter("{l:*}:actions:*")]
    assert await redis.strlen(key) < 8 * 40


# ---- the script ----


async def test_no_twenty_pass_in_two_seconds_at_a_window_s_edge(limiter: Limiter) -> None:
    with clock.ahead(59):
        assert await taken(limiter, SCORES, 10) == 10
    for ahead_s in (60, 61, 118):
        with clock.ahead(ahead_s):
            assert await taken(limiter, SCORES, 10) == 0
    with clock.ahead(120):
        assert await taken(limiter, SCORES, 20) == 10


async def test_the_minute_slides_request_by_request(limiter: Limiter) -> None:
    for ahead_s in range(0, 50, 5):
        with clock.ahead(ahead_s):
            assert await taken(limiter, SCORES, 1) == 1
    for ahead_s in (61, 66):
        with clock.ahead(ahead_s):
            assert await taken(limiter, SCORES, 3) == 1


@pytest.mark.parametrize(("window_s", "limit"), [(3600, 100), (86_400, 500)])
async def test_the_hour_and_the_day_end_when_they_say(
    limiter: Limiter, window_s: int, limit: int
) -> None:
    passed = 0
    for batch in range(limit // 10):
        with clock.ahead(batch * 30 * window_s / 3600):
            passed += await taken(limiter, Policy("actions", 20, 100, 500), 10)
            if window_s == 86_400:
                # The hour's limit is another test's.
                assert passed == 10 * (batch + 1)
    assert passed == limit
    last_s = (limit // 10 - 1) * 30 * window_s / 3600
    with clock.ahead(last_s + 60):
        wanted = Check(Policy("actions", 20, 100, 500), ADA)
        retry_after_s = await wait_s(limiter, wanted)
        assert retry_after_s > 60
    with clock.ahead(last_s + 60 + retry_after_s - 2):
        assert not await passes(limiter, wanted)
    with clock.ahead(last_s + 60 + retry_after_s):
        assert await passes(limiter, wanted)
    with clock.ahead(last_s + 2 * window_s):
        # What has left the window is not shown either: now the minute is the tightest.
        assert (await limiter.take([wanted])).judged.left == 19


def left_by_hand(policy: Policy, taken_s: list[int], now_s: int) -> int:
    """How many more requests pass, counted from the times of those that did."""
    counts = (
        sum(t > now_s - 60 for t in taken_s),
        *(sum(t // s > now_s // s - 60 for t in taken_s) for s in (60, 1440)),
    )
    return min(limit - count for limit, count in zip(policy.limits, counts, strict=True))


@pytest.mark.parametrize("seed", range(4))
async def test_a_long_history_is_judged_as_if_every_request_were_remembered(
    limiter: Limiter, seed: int
) -> None:
    policy, random = Policy("actions", 4, 12, 30), Random(seed)
    # Between sub-windows' edges, and far enough from them for the time that the test takes.
    start_s = 1440 - clock.now_ms() // 1000 % 1440 + 10
    at_s, taken_s = 0, list[int]()
    for _ in range(300):
        at_s += random.choice((0, 0, 0, 20, 40, 60, 100, 120, 140, 1000, 3600, 9000))
        chosen = policy.half if random.random() < 0.2 else policy
        left = left_by_hand(chosen, taken_s, at_s)
        with clock.ahead(start_s + at_s):
            try:
                assert (await limiter.take([Check(chosen, ADA)])).judged.left == left - 1
                taken_s.append(at_s)
            except RateLimited:
                assert left <= 0
    assert 50 < len(taken_s) < 250


@pytest.mark.parametrize("available", [True, False], ids=["by Redis", "by the gateway"])
async def test_a_refused_request_takes_nothing(limiter: Limiter, available: bool) -> None:
    if not available:
        limiter._unavailable.set()
    assert await taken(limiter, SCORES, 10) == 10
    crowd = Check(REQUESTS, "cb007101")
    for _ in range(200):
        assert not await passes(limiter, crowd, Check(SCORES, ADA))

    assert await taken(limiter, REQUESTS, 200, "cb007101") == 100


async def test_a_batch_of_many_callers_is_decided_in_order(limiter: Limiter) -> None:
    users = [f"user-{number % 7}" for number in range(140)]
    results = await asyncio.gather(
        *(passes(limiter, Check(REQUESTS, "aa"), Check(SCORES, user)) for user in users)
    )

    for user in set(users):
        own = [passed for passed, who in zip(results, users, strict=True) if who == user]
        assert own == [True] * 10 + [False] * 10


# ---- flagged and banned players ----


def sanction(
    kind: "Sanction.Kind", version: int, user_id: str = ADA, until_ms: int = 0
) -> Sanction:
    return Sanction(user_id=user_id, kind=kind, version=version, until_ms=until_ms)


async def say(redis: Redis, *sanctions: Sanction) -> None:
    batch = SanctionEvents(sanctions=sanctions).SerializeToString()
    await redis.xadd(SANCTIONS, {"batch": batch})


async def banned(edge: Edge) -> bool:
    """Whether Ada is; calls from an address that counts against no limit of hers."""
    token = edge.fakes.signer.token()
    return (await edge.call("GET", f"/api/v1/me/scores/{BOB}", token=token)).status == 403


@pytest.fixture
async def fresh(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> AsyncIterator[Edge]:
    """A gateway without sanctions but those that fraud returns at its start."""
    fakes.sanctions.append(sanction(Sanction.FLAGGED, 5, BOB))
    async with edge_of(edge_settings(fakes, certificates, redis_url), fakes) as edge:
        yield edge


async def test_a_flagged_player_has_half(fresh: Edge) -> None:
    for path, body in (("/actions/request", WANTED), ("/scores/update", UPDATE)):
        bob = [(await fresh.play(path, body, BOB)).status for _ in range(6)]
        ada = [(await fresh.play(path, body, ADA)).status for _ in range(6)]
        assert bob[-1] == 429
        assert 429 not in bob[:5] + ada
    half = ACTIONS.half
    assert half.limits == (5, 50, 250)


async def test_a_ban_in_the_stream_ends_everything_within_a_second(
    fresh: Edge, redis: Redis
) -> None:
    loop = asyncio.get_running_loop()
    headers = {"Authorization": f"Bearer {fresh.fakes.signer.token()}"}
    async with fresh.client.ws_connect(f"{fresh.base}/ws/leaderboard", headers=headers) as ws:
        await ws.send_json({"type": "connect", "id": 1, "subs": []})
        assert (await ws.receive_json(timeout=10))["type"] == "welcome"
        # A reader of the stream in this very loop is as late as the machine is slow.

        async def read() -> bool:
            return bool(await redis.xread({SANCTIONS: "0"}, block=10_000))

        reading = asyncio.create_task(read())
        await say(redis, sanction(Sanction.BANNED, 7))
        assert await reading
        written_s = loop.time()
        while (message := await ws.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
            pass
        took_s = loop.time() - written_s

    assert message.type is aiohttp.WSMsgType.CLOSE
    assert ws.close_code == 4503
    assert took_s < 1
    assert await banned(fresh), "at once, since the socket was closed by the same word"
    for number in range(3):
        assert (await redeem(fresh, number, ADA)).code == "ACCOUNT_BANNED"
    assert (await redeem(fresh, 0, BOB)).status == 200


async def test_a_late_older_sanction_changes_nothing_and_a_newer_one_does(
    fresh: Edge, redis: Redis
) -> None:
    await say(redis, sanction(Sanction.BANNED, 7))
    await say(redis, sanction(Sanction.NONE, 6), sanction(Sanction.BANNED, 8, BOB))

    async def applied() -> bool:
        return (await redeem(fresh, 0, BOB)).status == 403

    await eventually(applied, pause_s=0.2)
    assert await banned(fresh)
    await say(redis, sanction(Sanction.NONE, 9))

    async def free() -> bool:
        return not await banned(fresh)

    await eventually(free, pause_s=0.2)


async def test_a_ban_for_a_time_ends_by_itself(
    fakes: Fakes, certificates: Certificates, redis_url: str, redis: Redis
) -> None:
    fakes.sanctions.append(sanction(Sanction.BANNED, 1, until_ms=clock.now_ms() + 60_000))
    async with edge_of(edge_settings(fakes, certificates, redis_url), fakes) as edge:
        assert (await redeem(edge, 0, ADA)).status == 403
        with clock.ahead(61):
            assert (await redeem(edge, 0, ADA)).status == 200


async def test_what_the_stream_did_not_bring_is_caught_up(
    fakes: Fakes,
    certificates: Certificates,
    redis_url: str,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chassis.redis.feed.CATCH_UP_S", 0.5)
    async with edge_of(edge_settings(fakes, certificates, redis_url), fakes) as edge:
        # A newer version by the stream must not hide the older one from catching up.
        await say(redis, sanction(Sanction.FLAGGED, 9, BOB))
        fakes.sanctions.append(sanction(Sanction.BANNED, 8))

        await eventually(lambda: banned(edge), pause_s=0.2)


# ---- Redis unavailable ----


async def test_there_is_no_window_without_a_limit_while_redis_is_unavailable(
    fakes: Fakes, certificates: Certificates, own_redis: Callable[[], AbstractContextManager[str]]
) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_redis())
        async with edge_of(edge_settings(fakes, certificates, url), fakes) as edge:
            before = [(await redeem(edge, 0, BOB)).status for _ in range(11)]
            stack.close()
            answers = await asyncio.gather(*(redeem(edge, 0, ADA) for _ in range(100)))
            later = await redeem(edge, 0, ADA)

    assert before == [200] * 10 + [429]
    assert [a.status for a in answers].count(200) == 10
    assert later.status == 429
    assert int(later.headers["Retry-After"]) > 50


async def test_gateways_share_a_limit_while_redis_is_unavailable(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    policies = (SCORES, SCORES.half, REQUESTS, Policy("large", 1000), Policy("small", 1))
    async with contextlib.AsyncExitStack() as clients:
        with own_redis() as url:
            redises = [await clients.enter_async_context(open_redis(url)) for _ in range(3)]
            peers = [Peers(redis) for redis in redises]
            for each in [*peers, *peers]:
                await each.beat()
        limiters = [
            Limiter(redis, each, disabled=False) for redis, each in zip(redises, peers, strict=True)
        ]
        passed = {
            policy: [await taken(limiter, policy, 400, f"user-{n}") for limiter in limiters]
            for n, policy in enumerate(policies)
        }
    # Each a third of it, rounded up: together at most two more than the limit.
    assert list(passed.values()) == [[4] * 3, [2] * 3, [34] * 3, [334] * 3, [1] * 3]


async def test_a_gateway_s_share_is_of_all_gateways_that_redis_last_counted(
    fakes: Fakes, certificates: Certificates, own_redis: Callable[[], AbstractContextManager[str]]
) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_redis())
        async with (
            open_redis(url) as redis,
            Peers(redis).running(),
            Peers(redis).running(),
            # Counted from its start, so it has to wait for no heartbeat.
            edge_of(edge_settings(fakes, certificates, url), fakes) as edge,
        ):
            assert await redis.zcard(KEY) == 3
            stack.close()
            answers = await asyncio.gather(*(redeem(edge, 0, ADA) for _ in range(30)))

    assert [a.status for a in answers].count(200) == 4


async def test_a_gateway_counts_while_it_runs_and_for_some_time_when_it_was_killed(
    redis: Redis,
) -> None:
    mine = Peers(redis, heartbeat_s=0.02, missed_max=750)  # 15 s

    async def counts(wanted: int) -> bool:
        return mine.count == wanted

    async with mine.running():
        assert mine.count == 1
        async with Peers(redis).running():
            await eventually(lambda: counts(2))
        await eventually(lambda: counts(1))  # at once, since the other one left

        await Peers(redis).beat()  # and nothing after it
        await eventually(lambda: counts(2))
        with clock.ahead(14):
            await mine.beat()
            assert mine.count == 2
        with clock.ahead(16):
            await mine.beat()
            assert mine.count == 1
    assert await redis.exists(KEY) == 0


async def test_the_last_count_stays_while_redis_is_unavailable(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_redis())
        async with open_redis(url) as redis:
            peers = Peers(redis)
            assert peers.count == 1
            await Peers(redis).beat()
            await peers.beat()
            stack.close()
            await peers.beat()
            assert peers.count == 2


async def test_the_script_decides_again_when_redis_is_back(redis_url: str, redis: Redis) -> None:
    async with open_redis(redis_url) as own:
        limiter = Limiter(own, Peers(own), disabled=False)
        assert await taken(limiter, SCORES, 10) == 10
        limiter._unavailable.set()
        assert await taken(limiter, SCORES, 3) == 3  # by this process alone
        following = asyncio.create_task(limiter.follow())
        try:

            async def refused() -> bool:
                return not await passes(limiter, Check(SCORES, ADA))

            await eventually(refused, pause_s=0.2)
        finally:
            following.cancel()


async def test_this_process_alone_decides_for_as_long_as_redis_refuses_writes(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with own_redis() as url:
        async with open_redis(url) as own, open_redis(url) as admin:
            limiter = Limiter(own, Peers(own), disabled=False)
            await admin.config_set("min-replicas-to-write", 1)
            assert await taken(limiter, SCORES, 20) == 10
            following = asyncio.create_task(limiter.follow())
            try:

                async def probed() -> bool:
                    calls: dict[str, Any] = await admin.info("commandstats")
                    return bool(calls.get("cmdstat_set", {}).get("rejected_calls", 0) >= 2)

                async def available() -> bool:
                    return not limiter._unavailable.is_set()

                await eventually(probed, timeout_s=3.0)
                assert not await available()
                await admin.config_set("min-replicas-to-write", 0)
                await eventually(available, timeout_s=2.0)
            finally:
                following.cancel()
