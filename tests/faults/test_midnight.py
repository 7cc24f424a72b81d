"""Awards over the end of a day: each counts in one day only, and the day's table stays provable."""

import asyncio
import hashlib
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from chassis import clock
from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.rpc.client import open_channel
from chassis.rpc.tls import Identity
from chassis.testing import eventually
from protos.actions_pb2 import Grant, VerifyItem
from protos.scores_pb2 import Award, AwardItem, AwardRequest
from protos.scores_pb2_grpc import ScoresStub
from scoreboard_client import Client
from tests import books
from tests.journeys.game import added
from tests.journeys.ranking import Play, Ranking, Rules
from tests.operating import ordered
from tests.people import address, new_type
from tests.suite import Suite, started

RATE = 500  # awards a second
BEFORE_S, AFTER_S = 6.0, 4.0  # of load
LEADS_S = (30.0, 60.0, 120.0)  # from a suite's start to its midnight: the first that suffices
PLAYERS = 60
BEST = Rules(operator="best", ties="shared")  # of a board that an administrator added
DAILY = {"every": "day", "at": "00:00"}
IN_FLIGHT_MAX = 8
BATCH_MAX = 64
GIVE_UP_S = 30.0


@dataclass(frozen=True)
class Row:
    """A row of the ledger."""

    user_id: str
    points: int
    seq: int
    at_ms: int


async def test_an_award_at_midnight_counts_in_one_day_and_the_day_is_sealed(tmp_path: Path) -> None:
    with near_midnight(tmp_path) as (suite, midnight):
        types = [await new_type(suite, points=points) for points in (3, 7)]
        await added(suite, {"board": "best", "title": "Best", **asdict(BEST), "reset": DAILY})
        users = {uuid7(): f"player-{number}" for number in range(PLAYERS)}
        with clock.ahead(suite.clock_offset_s):  # for the ids that are made here
            async with scores_of(suite) as scores:
                awards = await granted(scores, suite, types, users, midnight)
        rows = await ledger(suite)
        assert sorted((a.user_id, a.score_increment, a.at_ms) for a in awards) == sorted(
            (row.user_id, row.points, row.at_ms) for row in rows
        )
        ended_ms = int(midnight.timestamp() * 1000)
        old = [row for row in rows if row.at_ms < ended_ms]
        new = [row for row in rows if row.at_ms >= ended_ms]
        print(f"\n{len(old)} awards before midnight, {len(new)} after", end="")
        assert old
        assert new

        day, next_day = period(midnight - timedelta(days=1)), period(midnight)
        await eventually(partial(is_sealed, suite, day, old), timeout_s=GIVE_UP_S)
        await eventually(partial(books.boards_agree, suite), timeout_s=GIVE_UP_S)
        for board, rules in (("daily", Rules()), ("best", BEST)):
            before, after = (Ranking(rules, plays(part, users)) for part in (old, new))
            for name, expected in (("previous", before), (day, before), ("current", after)):
                found = day if expected is before else next_day
                await expect_read(suite, f"{board}?period={name}", found, expected)
        await expect_proved(suite)


@contextmanager
def near_midnight(folder: Path) -> Iterator[tuple[Suite, datetime]]:
    """A suite that is ready some seconds before its day ends, and that midnight."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days, lead_s in enumerate(LEADS_S, 1):
        midnight = today + timedelta(days=days)
        ahead_s = round(midnight.timestamp() - time.time() - lead_s)
        with started(folder, limits="off", clock_offset_s=ahead_s) as suite:
            if seconds_until(midnight, suite) > BEFORE_S:
                yield suite, midnight
                return
    raise AssertionError("never ready in time")


@asynccontextmanager
async def scores_of(suite: Suite) -> AsyncIterator[ScoresStub]:
    """The suite's scores as the gateway calls it: so that the gateway does not set the pace."""
    identity = Identity(suite.folder() / "tls" / "gateway")
    target = f"127.0.0.1:{suite.processes()['scores']['port']}"
    async with open_channel(target, unit="scores", identity=identity) as channel:
        yield ScoresStub(channel)


async def granted(
    scores: ScoresStub,
    suite: Suite,
    action_types: Sequence[str],
    users: Mapping[str, str],
    midnight: datetime,
) -> list[Award]:
    """What a game server got that granted awards at a steady rate over midnight."""
    room, answers = asyncio.Semaphore(IN_FLIGHT_MAX), list[Award]()

    async def send(items: Sequence[AwardItem]) -> None:
        try:
            answers.extend(await awarded(scores, items))
        finally:
            room.release()

    await asyncio.sleep(seconds_until(midnight, suite) - BEFORE_S)
    begun, sent = time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while (now_s := time.monotonic() - begun) < BEFORE_S + AFTER_S:
            due = min(BATCH_MAX, int(now_s * RATE) - sent)
            if due > 0:
                await room.acquire()
                turns = zip(random.choices([*users], k=due), cycle(action_types), strict=False)
                items = [item(user, users[user], name) for user, name in turns]
                sent += due
                group.create_task(send(items))
            await asyncio.sleep(0.01)
    took_s = time.monotonic() - begun
    print(f"\n{len(answers)} awards in {took_s:.1f} s: {len(answers) / took_s:.0f}/s", end="")
    return answers


async def awarded(scores: ScoresStub, items: Sequence[AwardItem]) -> list[Award]:
    """The award of each item, requested again while scores is too busy to answer."""
    answers: list[Award] = []
    async with asyncio.timeout(GIVE_UP_S):
        while items:
            try:
                reply = await scores.Award(AwardRequest(items=items))
            except (Failed, grpc.RpcError):
                continue
            answers += [result.award for result in reply.results if result.HasField("award")]
            items = [
                item
                for item, result in zip(items, reply.results, strict=True)
                if result.HasField("failure")
            ]
    return answers


def item(user_id: str, username: str, action_type: str) -> AwardItem:
    """A grant of one award."""
    return AwardItem(
        attempt=VerifyItem(
            attempt_id=uuid7(),
            user_id=user_id,
            grant=Grant(
                client_id="made-by-a-test",
                action_types=[action_type],
                action_id=uuid7(),
                user_id=user_id,
                action_type=action_type,
            ),
        ),
        username=username,
        name_version=1,
    )


async def ledger(suite: Suite) -> list[Row]:
    """The whole ledger in its order."""
    rows = await suite.sql(
        """
        SELECT user_id::text, points, seq, (extract(epoch FROM at) * 1000)::bigint AS at_ms
        FROM scores.ledger ORDER BY seq
        """
    )
    return [Row(*row) for row in rows]


def plays(rows: Iterable[Row], users: Mapping[str, str]) -> list[Play]:
    """The rows as the model of a board takes them."""
    return [Play(row.user_id, users[row.user_id], row.points, rfc3339(row.at_ms)) for row in rows]


async def is_sealed(suite: Suite, day: str, rows: Sequence[Row]) -> bool:
    """Whether the day is closed, and sealed by the hash that these rows of the ledger give."""
    found = await read(suite, f"daily?period={day}")
    if "seal" not in found:
        return False
    lines = [f"final.v1\tdaily\t{day}"]
    ranking = Ranking(Rules(), plays(rows, defaultdict(str)))
    for place, standing in enumerate(ranking.rows, 1):
        row = rows[standing.reached]
        line = (place, standing.user_id, standing.score, row.seq, row.at_ms)
        lines.append("\t".join(map(str, line)))
    text = "".join(f"{line}\n" for line in lines)
    assert found["seal"]["hash"] == hashlib.sha256(text.encode()).hexdigest()
    return True


async def expect_read(suite: Suite, path: str, period: str, ranking: Ranking) -> None:
    """A board, page by page, is of that period and shows what the ledger adds up to."""
    entries: list[dict[str, Any]] = []
    query = f"{path}&limit=25"
    while query:
        page = await read(suite, query)
        assert (page["period"], page["degraded"]) == (period, False)
        entries += page["entries"]
        query = f"{path}&limit=25&cursor={page['nextCursor']}" if page["nextCursor"] else ""
    assert entries == ranking.entries()


async def expect_proved(suite: Suite) -> None:
    """An operator's audit proves the closed days from the ledger, and notices a changed one."""
    code, said = await ordered(suite, "scores", "audit", "--seals")
    assert code == 0, said
    await suite.sql("UPDATE scores.finals SET score = score + 1 WHERE position = 2")
    code, said = await ordered(suite, "scores", "audit", "--seals")
    assert code == 1, said
    print(f"\n{said}", end="")


async def read(suite: Suite, board: str) -> dict[str, Any]:
    async with Client(suite.url, headers=address()) as visitor:
        answer: dict[str, Any] = await visitor.call("GET", f"/leaderboards/{board}")
    return answer


def period(begins: datetime) -> str:
    """The id of the period that begins then."""
    return f"{begins:%Y%m%dT%H%M%SZ}"


def rfc3339(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def seconds_until(moment: datetime, suite: Suite) -> float:
    """By the suite's clock."""
    return moment.timestamp() - time.time() - suite.clock_offset_s
