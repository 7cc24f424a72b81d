"""Readers that fell behind a bounded stream: afterwards they have what the source has."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import grpc
import msgspec
import pytest
from redis.asyncio.connection import parse_url

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database, open_pool
from chassis.process import background
from chassis.redis import Redis, open_redis
from chassis.redis.stream import Bound
from chassis.testing import Certificates, eventually, served
from chassis.tests.gate import gate_to
from protos.arrows import callers
from protos.scores_pb2 import TopItem, TopRequest
from protos.scores_pb2_grpc import ScoresStub, add_ScoresServicer_to_server
from protos.streams import AWARDS
from services.fraud.follower import Follower
from services.fraud.store import FraudStore
from services.realtime.channels import Channels
from services.realtime.frames import Window
from services.realtime.live import live
from services.realtime.source import Source
from services.scores.awards.records import Judged
from services.scores.service import ScoresService
from services.scores.tests.scores_served import Scores, open_scores

ENTRIES_MAX = 1000
AWARDS_MADE = 20_000
A_BATCH = 16  # awards in one entry
PLAYERS = [uuid7() for _ in range(200)]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Scores with a narrow stream, and the other units' ends."""

    scores: Scores
    to_scores: dict[str, ScoresStub]  # by caller
    fraud: asyncpg.Pool

    def follower(self) -> Follower:
        return Follower(
            FraudStore(Database(self.fraud)), self.scores.redis, self.to_scores["fraud"]
        )

    async def missing(self) -> int:
        """Rows of the ledger that fraud's copy lacks or has otherwise, and rows it should not."""
        both = """
            SELECT count(*) FROM (
              SELECT action_id, kind, seq, user_id, version, action_type, points, old_score,
                     new_score, at FROM scores.ledger) l
            FULL JOIN (
              SELECT event_id, kind, seq, user_id, version, action_type, points, old_score,
                     new_score, at FROM fraud.events) e ON l.action_id = e.event_id
            WHERE to_jsonb(l) - 'action_id' IS DISTINCT FROM to_jsonb(e) - 'event_id'"""
        return int(await self.scores.admin.fetchval(both, timeout=30))

    async def complete(self) -> bool:
        return await self.missing() == 0


@pytest.fixture
async def parts(
    migrated: Callable[..., Awaitable[dict[str, str]]], redis: Redis, certificates: Certificates
) -> AsyncIterator[Parts]:
    urls = await migrated("scores", "fraud")
    bound = Bound(entries_max=ENTRIES_MAX, bytes_max=2**30, kept_s=86400)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        scores = await enter(open_scores(urls, redis, certificates, events=bound))
        await scores.awards.ledger.add_players([(p, f"p-{p[-6:]}", 1) for p in PLAYERS])
        yield Parts(
            scores=scores,
            to_scores={
                caller: ScoresStub(await enter(_serve(scores, certificates, caller)))
                for caller in ("fraud", "realtime")
            },
            fraud=await enter(open_pool(urls["fraud"])),
        )


@asynccontextmanager
async def _serve(
    scores: Scores, certificates: Certificates, caller: str
) -> AsyncIterator[grpc.aio.Channel]:
    service = ScoresService(scores.awards, scores.reads, scores.upkeep)
    async with served(
        "scores",
        partial(add_ScoresServicer_to_server, service),
        certificates=certificates,
        callers=callers("scores"),
        caller=caller,
    ) as channel:
        yield channel


async def award(scores: Scores, awards: int) -> None:
    """So many awards to all players in turn, in small batches, several at once."""
    batches = iter(range(0, awards, A_BATCH))

    async def work() -> None:
        for start in batches:
            turn = range(start, min(start + A_BATCH, awards))
            await award_to(scores, [PLAYERS[n % len(PLAYERS)] for n in turn])

    await asyncio.gather(*(work() for _ in range(4)))
    await scores.awards.drain()


async def award_to(scores: Scores, players: Sequence[str]) -> None:
    """One batch, written and published as the pipeline does."""
    batch = [
        Judged(
            action_id=uuid7(),
            user_id=player,
            username="",
            name_version=1,
            action_type="WIN_GAME",
            points=1 + n,
            attempt_id=uuid7(),
        )
        for n, player in enumerate(players)
    ]
    rows: Sequence[Any] = await scores.awards.writer.insert(batch)
    await scores.awards.publisher.publish(list(zip(batch, rows, strict=True)))


async def test_20000_awards_behind_a_bound_of_1000_entries_are_all_seen_once(
    parts: Parts, redis_url: str
) -> None:
    scores, place = parts.scores, dict[str, Any](parse_url(redis_url))
    dial = (
        partial(asyncio.open_unix_connection, place["path"])
        if "path" in place
        else partial(asyncio.open_connection, place["host"], place["port"])
    )
    await award(scores, 100)
    follower = parts.follower()
    while await parts.missing():
        await follower.step()

    async with gate_to(dial) as gate:
        password = f":{place['password']}@" if place.get("password") else ""
        async with (
            open_redis(f"redis://{password}127.0.0.1:{gate.port}") as cut_off,
            live(cut_off, Source(parts.to_scores["realtime"])) as (channels, _, _),
        ):
            # No reader runs from here on: fraud's is stopped, realtime's gets no answer.
            gate.shut = True
            gate.cut()
            await award(scores, AWARDS_MADE)
            assert await scores.redis.xlen(AWARDS) <= ENTRIES_MAX + 100
            assert await parts.missing() == AWARDS_MADE

            gate.shut = False
            async with background(parts.follower().run(), award_on(scores)):
                await eventually(partial(as_rest, parts, channels), timeout_s=30)
                await eventually(partial(settled, parts), timeout_s=30)

    copied = await parts.fraud.fetchval("SELECT count(*) FROM fraud.events")
    assert copied == AWARDS_MADE + 100 + 200


async def award_on(scores: Scores) -> None:
    """Further awards while the readers catch up."""
    await award(scores, 200)
    await asyncio.Event().wait()


async def settled(parts: Parts) -> bool:
    rows = await parts.scores.admin.fetchval("SELECT count(*) FROM scores.ledger")
    return rows == AWARDS_MADE + 300 and await parts.complete()


async def as_rest(parts: Parts, channels: Channels) -> bool:
    """Whether the window of each board is what REST shows."""
    for name, channel in channels.boards.items():
        board = name.removeprefix("leaderboard:")
        item = TopItem(board=board, limit=10, fresh=True)
        reply = await parts.scores.stub.Top(TopRequest(items=[item]))
        rest = [(e.rank, e.user_id, e.score) for e in reply.results[0].top.entries]
        shown = msgspec.json.decode(channel.snapshot, type=Window).entries
        if len(rest) != 10 or rest != [(e.rank, e.user_id, e.score) for e in shown]:
            return False
    return True


async def test_an_award_that_is_committed_behind_the_catch_up_comes_by_the_stream(
    parts: Parts,
) -> None:
    """Its sequence is lower than one that was copied before it was committed."""
    scores, follower = parts.scores, parts.follower()
    await award(scores, 20)
    while await parts.missing():
        await follower.step()
    slow = uuid7()
    async with scores.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch(
            "SELECT FROM scores.award($1, $2, $3, $4, $5, '{NULL}', '{NULL}', '{NULL}', $6)",
            [slow], PLAYERS[:1], ["WIN_GAME"], [5], [uuid7()], clock.offset(),
        )  # fmt: skip
        await scores.redis.delete(AWARDS)
        await award_to(scores, PLAYERS[1:])
        await scores.awards.drain()
        await scores.redis.delete(AWARDS)
        while (await FraudStore(Database(parts.fraud)).progress()).since_ms is None:
            await follower.step()
        while (await FraudStore(Database(parts.fraud)).progress()).since_ms is not None:
            await follower.step()
        assert await parts.missing() == 0
        await transaction.commit()
    assert await parts.missing() == 1

    await scores.awards.relay.work(0)
    await follower.step()

    assert await parts.missing() == 0
