"""Awards while Postgres is unavailable: tried again, kept, made once."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest
from structlog.testing import capture_logs

from chassis.errors import Failed
from chassis.ids import uuid7
from chassis.postgres import DbUnavailable
from chassis.process import background
from chassis.redis import Redis
from chassis.testing import Certificates, eventually
from protos import scores_pb2
from services.scores.awards.records import Judged
from services.scores.awards.write import Breaker, LedgerWriter, about
from services.scores.tests.conftest import Scores, item
from services.scores.tests.scores_served import open_scores
from services.scores.tests.test_journal import QUEUED, ledger
from services.scores.tests.test_reversals import board
from services.scores.tests.test_sanctions import banned, publish, reading

ADA, BOB = uuid7(), uuid7()


class Postgres(Protocol):
    """The fixture `own_postgres`."""

    def start(self) -> None: ...

    def kill(self) -> None: ...

    async def prepare(self, *units: str) -> dict[str, str]: ...


@pytest.fixture
async def own(
    own_postgres: Postgres, redis: Redis, certificates: Certificates
) -> AsyncIterator[tuple[Postgres, Scores]]:
    """The service on a Postgres of this file's own, with its breaker followed."""
    own_postgres.start()
    urls = await own_postgres.prepare("scores")
    async with (
        open_scores(urls, redis, certificates) as scores,
        background(scores.awards.breaker.follow()),
    ):
        await scores.award(item(BOB, 1))  # its connection is there
        yield own_postgres, scores


def judged(user_id: str) -> Judged:
    return Judged(
        action_id=uuid7(),
        user_id=user_id,
        username="ada",
        name_version=1,
        action_type="WIN_GAME",
        points=50,
        attempt_id=uuid7(),
    )


async def test_a_kill_in_flight_and_five_retries_make_one_credit(
    own: tuple[Postgres, Scores],
) -> None:
    postgres, scores = own
    attempts = [item(ADA, 1 + n, key=secrets.token_bytes(32), body=b"b" * 32) for n in range(60)]
    flying = [asyncio.create_task(scores.award(attempt)) for attempt in attempts]
    await asyncio.sleep(0.01)
    postgres.kill()
    answers = [(await one)[0] for one in flying]
    assert QUEUED in answers

    for _ in range(5):
        again = [await scores.award(attempt) for attempt in attempts]
    assert {str(a[0]) for a in again} == {QUEUED}

    postgres.start()
    await eventually(lambda: _closed(scores))
    late = [(await scores.award(attempt))[0] for attempt in attempts[:30]]
    await scores.awards.journal.drain()
    await scores.awards.publisher.drain()
    await scores.awards.relay.work(1)

    assert sorted(await ledger(scores)) == sorted([(BOB, 1)] + [(ADA, 1 + n) for n in range(60)])
    assert await board(scores) == [(ADA, sum(range(61))), (BOB, 1)]
    assert [a.score_increment for a in late] == [1 + n for n in range(30)]


async def _closed(scores: Scores) -> bool:
    return not scores.awards.breaker.open


async def test_one_failed_batch_opens_the_breaker_and_one_answer_closes_it(
    own: tuple[Postgres, Scores],
) -> None:
    postgres, scores = own
    loop = asyncio.get_running_loop()
    postgres.kill()

    assert await scores.award(item(ADA)) == [QUEUED]
    assert scores.awards.breaker.open
    started = loop.time()
    assert [await scores.award(item(ADA)) for _ in range(20)] == [[QUEUED]] * 20
    kept_s = loop.time() - started

    assert kept_s < 10 * 0.5  # of which each would take that long, were Postgres tried
    postgres.start()
    await eventually(lambda: _closed(scores))
    assert (await scores.award(item(ADA)))[0].new_score == 50


async def test_a_batch_is_tried_again_after_100_200_and_400_ms(
    own: tuple[Postgres, Scores],
) -> None:
    postgres, scores = own
    postgres.kill()
    pauses_s: list[float] = []

    async def pause(pause_s: float) -> None:
        pauses_s.append(pause_s)

    breaker = Breaker(scores.database.ping)
    writer = LedgerWriter(scores.awards.ledger, breaker, scores.registry.refresh, pause=pause)
    with pytest.raises(DbUnavailable):
        await writer.write([judged(ADA)])

    assert pauses_s == [0.1, 0.2, 0.4]
    assert breaker.open
    postgres.start()


async def test_a_batch_is_not_tried_beyond_its_time(own: tuple[Postgres, Scores]) -> None:
    postgres, scores = own
    postgres.kill()
    pauses_s: list[float] = []

    async def pause(pause_s: float) -> None:
        pauses_s.append(pause_s)

    writer = LedgerWriter(
        scores.awards.ledger, scores.awards.breaker, scores.registry.refresh, pause=pause
    )
    until_s = asyncio.get_running_loop().time() + 1000
    with pytest.raises(DbUnavailable):
        await writer.insert([judged(ADA)], pauses_s=(900, 1001, 5), until_s=until_s)

    assert pauses_s == [900]
    postgres.start()


def test_a_pause_is_up_to_a_quarter_more_or_less_than_its_name() -> None:
    pauses_s = [about(0.4) for _ in range(200)]

    assert 0.3 <= min(pauses_s) < 0.35
    assert 0.45 < max(pauses_s) <= 0.5


async def test_what_only_the_ledger_holds_is_refused_alone(
    own: tuple[Postgres, Scores],
) -> None:
    postgres, scores = own
    used = uuid7()
    await scores.award(item(ADA, action_id=used))
    postgres.kill()

    answers = await scores.award(
        item(ADA, action_id=used, refusal="TOKEN_EXPIRED"), item(BOB), item(ADA)
    )

    assert answers == ["DB_UNAVAILABLE", QUEUED, QUEUED]
    with pytest.raises(Failed, match="DB_UNAVAILABLE"):
        await scores.stub.Receipt(scores_pb2.ReceiptRequest(user_id=ADA, action_id=used))
    postgres.start()


async def test_a_sanction_is_applied_when_postgres_is_back(
    own: tuple[Postgres, Scores],
) -> None:
    postgres, scores = own
    await scores.award(item(ADA, 50))
    with capture_logs() as logged:
        async with background(scores.awards.sanctions.follow(scores.redis)):
            await reading(scores, 1)
            postgres.kill()
            await publish(scores, banned(ADA))

            async def refused() -> bool:
                return "sanctions_not_applied" in [line["event"] for line in logged]

            await eventually(refused)
            postgres.start()

            async def hidden() -> bool:
                return await board(scores) == [(BOB, 1)]

            await eventually(hidden)


class Wire:
    """Stands between the service and Postgres, and breaks at the test's command."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pairs: list[asyncio.StreamWriter] = []
        self.swallow = False  # the next answer is lost, with its connection
        self.stalled = False  # nothing passes, without an error

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The URL of the same database by way of the wire."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        parts = urlsplit(self._url)
        login = parts.netloc.rpartition("@")[0]
        try:
            yield urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}", query=""))
        finally:
            server.close()
            for writer in self._pairs:
                writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self._url)
        folder = parse_qs(parts.query).get("host")
        if folder:
            there = await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.5432")
        else:
            there = await asyncio.open_connection(parts.hostname, parts.port)
        self._pairs += (writer, there[1])
        await asyncio.gather(
            self._pass(reader, there[1], answers=False), self._pass(there[0], writer, answers=True)
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(65536):
            if self.stalled:
                continue
            if answers and self.swallow:
                self.swallow = False
                break
            writer.write(data)
        writer.close()


@pytest.fixture
async def wired(
    scores_database: dict[str, str], redis: Redis, certificates: Certificates
) -> AsyncIterator[tuple[Wire, Scores]]:
    wire = Wire(scores_database["scores"])
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(wire.open())
        urls = {**scores_database, "scores": url}
        scores = await stack.enter_async_context(open_scores(urls, redis, certificates))
        await scores.award(item(BOB, 1))
        await scores.award(item(ADA, 1))
        await scores.awards.publisher.drain()
        yield wire, scores


async def test_a_lost_answer_to_a_commit_ends_as_the_same_award(
    wired: tuple[Wire, Scores],
) -> None:
    wire, scores = wired
    attempt = item(ADA, 50)
    wire.swallow = True

    answer = (await scores.award(attempt))[0]

    assert not wire.swallow  # it was lost indeed, after the commit
    assert (answer.old_score, answer.new_score, answer.version) == (1, 51, 2)
    assert await ledger(scores) == [(BOB, 1), (ADA, 1), (ADA, 50)]
    assert not scores.awards.breaker.open
    await scores.awards.relay.work(1)
    assert await board(scores) == [(ADA, 51), (BOB, 1)]


async def test_a_postgres_that_hangs_is_unavailable_within_seconds(
    wired: tuple[Wire, Scores],
) -> None:
    wire, scores = wired
    loop = asyncio.get_running_loop()
    wire.stalled = True

    started = loop.time()
    assert await scores.award(item(ADA, 50)) == [QUEUED]
    waited_s = loop.time() - started
    assert await scores.award(item(ADA, 7), item(ADA, 1, refusal="TOKEN_EXPIRED")) == [
        QUEUED,
        "DB_UNAVAILABLE",
    ]

    assert 1.5 < waited_s < 3
    assert loop.time() - started - waited_s < 1
    assert scores.awards.breaker.open


async def test_an_award_is_queued_though_much_of_its_time_was_spent_before(
    wired: tuple[Wire, Scores],
) -> None:
    """The calls that verify and judge wait for a Postgres that hangs as well."""
    wire, scores = wired
    wire.stalled = True

    reply = await scores.stub.Award(scores_pb2.AwardRequest(items=[item(ADA, 50)]), timeout=2.8)

    assert reply.results[0].failure.code == QUEUED
    assert scores.awards.breaker.open
