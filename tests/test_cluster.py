"""A Redis Cluster serves every unit: each script and each command finds its keys in one slot."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha1
from pathlib import Path

from aiohttp import web

from chassis import clock
from chassis.ids import uuid7
from chassis.redis import Redis
from chassis.testing import Certificates, eventually
from gateway.edge.idempotency import REPLAYED, Idempotency, Repeatable
from gateway.edge.limits import Check, Limiter, RateLimited, RequestLimits
from gateway.edge.peers import Peers
from gateway.edge.sanctions import Sanctions
from gateway.tests.edge import KEYS
from local.servers.cluster import Cluster
from protos.events_pb2 import SanctionEvents
from protos.fraud_pb2 import Sanction
from protos.scores_pb2 import (
    AroundItem,
    AroundRequest,
    RanksRequest,
    TopItem,
    TopRequest,
    WouldBeItem,
    WouldBeRequest,
)
from protos.scores_pb2_grpc import ScoresStub
from protos.streams import SANCTIONS
from services.fraud.evaluations import Attempt
from services.fraud.windows import Windows
from services.realtime.frames import Position, Publication
from services.realtime.store import Draft, LiveStore
from services.scores.awards.journal import STREAM as JOURNAL
from services.scores.awards.records import Judged
from services.scores.boards.names import Names
from services.scores.boards.ranking import After
from services.scores.reads.live import LiveReads
from services.scores.tests.scores_served import Scores, item, open_scores

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path for folder in ("gateway", "services") for path in (ROOT / folder).rglob("*.lua")
)


async def test_limits_are_kept_exactly_though_a_batch_spans_all_nodes(
    redis_cluster: Redis,
) -> None:
    # Two, so that what one counts by itself would be seen.
    peers = [Peers(redis_cluster) for _ in range(2)]
    limiters = [Limiter(redis_cluster, each, disabled=False) for each in peers]
    limits = RequestLimits()
    users = [uuid7() for _ in range(40)]

    async def passes(user: str, limiter: Limiter) -> bool:
        try:
            checks = [Check(limits.requests, "cb007100"), Check(limits.scores, user)]
            await limiter.take(checks)
        except RateLimited:
            return False
        return True

    async def passed(user: str) -> int:
        return sum(await asyncio.gather(*(passes(user, limiter) for limiter in limiters)))

    # 100 requests of one address in a minute, each counted although its user is elsewhere.
    assert sum(await asyncio.gather(*map(passed, users))) == 80
    assert sum(await asyncio.gather(*map(passed, users))) == 20
    for each in peers:
        await each.beat()
    assert peers[-1].count == 2


async def test_bursts_are_found_though_a_batch_spans_all_nodes(redis_cluster: Redis) -> None:
    windows = Windows(redis_cluster, limited=True)
    users = [uuid7() for _ in range(20)]
    batch = [Attempt(uuid7(), uuid7(), user, accepted=True) for _ in range(9) for user in users]

    counted = await windows.count(batch)

    assert [i for i, found in enumerate(counted) if found.burst] == list(range(160, 180))
    assert all(found.fixed or found.burst for found in await windows.count(batch))


async def test_live_channels_and_leases_are_followed_on_a_cluster(redis_cluster: Redis) -> None:
    store = LiveStore(redis_cluster)
    boards = [f"b{n}" for n in range(8)]
    channels = [f"leaderboard:{board}" for board in boards]
    fences = await store.lease(boards, holder="me", ttl_ms=5000)
    following = asyncio.create_task(store.follow(dict.fromkeys(channels, 0), wait_ms=5000))
    await asyncio.sleep(0.1)

    drafts = [_draft(*draft) for draft in zip(channels, fences, strict=True)]
    assert await store.publish(drafts) == ["published"] * 8
    assert await following
    found = await store.follow(dict.fromkeys(channels, 0), wait_ms=100)
    assert {publication.channel for publication in found} == set(channels)
    assert await store.positions(channels) == [Position("e", 1)] * 8
    position, _ = await store.stored(channels[0])
    assert position == Position("e", 1)


async def test_a_call_under_a_key_gets_the_same_answer_on_a_cluster(redis_cluster: Redis) -> None:
    calls = Idempotency(redis_cluster, KEYS)

    async def run() -> web.StreamResponse:
        return web.Response(body=uuid7().encode(), headers={"Content-Type": "text/plain"})

    for n in range(12):
        call = Repeatable(bytes([n]) * 32, bytes(32))
        first, again = [
            await calls.answer(call, run, kept=True, budget_s=5, request_id="r") for _ in range(2)
        ]
        assert isinstance(first, web.Response)
        assert isinstance(again, web.Response)
        assert again.headers[REPLAYED] == "true"
        assert again.body == first.body


async def test_sanctions_arrive_on_a_cluster(redis_cluster: Redis) -> None:
    async def none_yet(version: int) -> list[Sanction]:
        return []

    sanctions = Sanctions(none_yet)
    following = asyncio.create_task(sanctions.feed.follow(redis_cluster))
    banned = SanctionEvents(sanctions=[Sanction(user_id="u", kind=Sanction.BANNED, version=1)])

    async def applied() -> bool:
        await redis_cluster.xadd(SANCTIONS, {"batch": banned.SerializeToString()})
        return sanctions.banned("u")

    assert await eventually(applied)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_boards_and_the_journal_stand_on_a_cluster(
    redis_cluster: Redis,
    migrated: Callable[..., Awaitable[dict[str, str]]],
    certificates: Certificates,
) -> None:
    urls = await migrated("scores")
    async with open_scores(urls, redis_cluster, certificates) as scores:
        users = [uuid7() for _ in range(20)]
        awards = await scores.award(*(item(user, 10 + n) for n, user in enumerate(users)))
        assert [award.rank for award in awards] == [1] * 20
        await _queued(scores, users[0], points=500)
        await scores.redis.flushall()
        await scores.upkeep.rebuild.work()
        await scores.boards.names.keep({users[1]: (2, "ada")})
        for known in scores.registry.all():
            board = known.board
            period = next(one for one in known.periods if not one.closed)
            await _stands(scores.stub, board.name, [users[0], *users[:0:-1]])
            later = [one for one in known.periods if one.start_ms > clock.now_ms()]
            assert [await scores.upkeep.redis_boards.prepare(one) for one in later] == [True] * len(
                later
            )
            live = LiveReads(redis_cluster, Names(redis_cluster, scores.boards.store))
            page = await live.page(period, 5, After(510, 1, users[0]))
            assert page
            assert len(page.entries) == 5
            assert all(await scores.upkeep.redis_boards.states(period, users))
            await scores.upkeep.redis_boards.forget(period, users[:3])
            assert await scores.upkeep.redis_boards.states(period, users[:3]) == [None] * 3
            first = await scores.upkeep.redis_boards.first(period, 3)
            await scores.upkeep.redis_boards.drop(period, first)
            assert len(first) == 3
            assert await scores.upkeep.redis_boards.there(period, first) == []


async def _queued(scores: Scores, user: str, *, points: int) -> None:
    """An award that waited in the journal."""
    claim = Judged(
        action_id=uuid7(),
        user_id=user,
        username="p",
        name_version=1,
        action_type="WIN_GAME",
        points=points,
        attempt_id=uuid7(),
        client_id=None,
        key_hash=None,
        body_hash=None,
    )
    refused = await scores.awards.journal.queue([claim])
    assert [failure.code for failure in refused] == ["QUEUED_FOR_REPLAY"]
    await scores.awards.journal.drain()
    assert await scores.redis.xlen(JOURNAL) == 0


async def _stands(stub: ScoresStub, board: str, users: list[str]) -> None:
    """The players are on the board in this order, by every way of reading."""
    (top,) = (await stub.Top(TopRequest(items=[TopItem(board=board, limit=20)]))).results
    assert [entry.user_id for entry in top.top.entries] == users
    places = await stub.Around(
        AroundRequest(items=[AroundItem(board=board, user_id=user, radius=2) for user in users])
    )
    assert [result.place.rank for result in places.results] == list(range(1, 21))
    ranks = await stub.Ranks(RanksRequest(board=board, user_ids=users))
    assert [entry.rank for entry in ranks.entries] == list(range(1, 21))
    request = WouldBeRequest(items=[WouldBeItem(board=board, score=10_000)])
    assert (await stub.WouldBe(request)).results[0].would_be.rank == 1


async def test_every_script_is_called_with_keys_of_one_slot(
    redis_cluster: Redis,
    redis_nodes: Cluster,
    migrated: Callable[..., Awaitable[dict[str, str]]],
    certificates: Certificates,
) -> None:
    await redis_cluster.script_flush()
    await test_limits_are_kept_exactly_though_a_batch_spans_all_nodes(redis_cluster)
    await test_bursts_are_found_though_a_batch_spans_all_nodes(redis_cluster)
    await test_live_channels_and_leases_are_followed_on_a_cluster(redis_cluster)
    await test_a_call_under_a_key_gets_the_same_answer_on_a_cluster(redis_cluster)
    await test_boards_and_the_journal_stand_on_a_cluster(redis_cluster, migrated, certificates)

    # A node has a script since it was called there, and refuses keys that are not its own.
    assert [script.name for script in SCRIPTS if not _loaded(script, redis_nodes)] == []


def _loaded(script: Path, nodes: Cluster) -> bool:
    """Whether a node has the script, alone or behind one that others begin with."""
    texts = [script.read_text()]
    for start in (script.parent / name for name in ("order.lua", "change.lua")):
        if start.exists():
            ends = script.parent.glob("*.lua") if script == start else [script]
            texts += [f"{start.read_text()}\n{end.read_text()}" for end in ends]
    hashes = [sha1(text.encode(), usedforsecurity=False).hexdigest() for text in texts]
    for number in range(3):
        with nodes.node(number) as node:
            if any(node.script_exists(*hashes)):
                return True
    return False


def _draft(channel: str, fence: int) -> Draft:
    publication = Publication(
        channel=channel, position=Position("e", 1), frame=b"f", snapshot=b"s", at_ms=clock.now_ms()
    )
    return Draft(publication=publication, fence=fence, after=Position("", 0))
