"""Sanctions: fraud says who is hidden, and the boards follow at once, once, and in the end."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

from chassis import clock
from chassis.ids import uuid7
from chassis.process import background
from chassis.redis import Redis
from chassis.testing import eventually
from protos import events_pb2
from protos.fraud_pb2 import Sanction
from protos.streams import SANCTIONS
from services.scores.awards.sanctions import Sanctions
from services.scores.tests.conftest import Scores, item
from services.scores.tests.test_reversals import board

ADA, BOB, EVE = uuid7(), uuid7(), uuid7()
HOUR_MS = 3_600_000


async def publish(scores: Scores, *sanctions: Sanction) -> None:
    """As fraud does."""
    batch = events_pb2.SanctionEvents(sanctions=sanctions).SerializeToString()
    await scores.redis.xadd(SANCTIONS, {"batch": batch})


async def reading(scores: Scores, followers: int) -> None:
    """Returns when that many wait for the stream."""

    async def blocked() -> bool:
        clients = await scores.redis.info("clients")
        return bool(clients["blocked_clients"] == followers)

    await eventually(blocked)


def banned(user_id: str, version: int = 1, *, until_ms: int = 0) -> Sanction:
    return Sanction(user_id=user_id, kind=Sanction.BANNED, version=version, until_ms=until_ms)


async def test_a_ban_on_the_stream_takes_the_player_off_every_board_within_a_second(
    scores: Scores,
) -> None:
    await scores.award(item(ADA, 50), item(BOB, 40))
    async with background(scores.awards.sanctions.follow(scores.redis)):
        await reading(scores, 1)
        await publish(scores, Sanction(user_id=BOB, kind=Sanction.FLAGGED, version=1))
        await publish(scores, banned(ADA, 2))
        started = asyncio.get_running_loop().time()

        async def hidden() -> bool:
            shown = [await board(scores, name) for name in ("all_time", "daily")]
            return shown == [[(BOB, 40)]] * 2

        await eventually(hidden)
        took_s = asyncio.get_running_loop().time() - started

    assert took_s < 1
    assert (await scores.award(item(ADA, 1)))[0].held


async def test_quarantine_hides_and_release_shows_the_very_same_board(scores: Scores) -> None:
    await scores.award(item(ADA, 50), item(BOB, 50))
    before = await board(scores)
    for version, kind, shown in (
        (1, Sanction.QUARANTINED, [(BOB, 50)]),
        (2, Sanction.BANNED, [(BOB, 50)]),
        (3, Sanction.FLAGGED, before),
        (4, Sanction.BANNED, [(BOB, 50)]),
        (5, Sanction.NONE, before),
    ):
        scores.fraud.sanctions = [Sanction(user_id=ADA, kind=kind, version=version)]
        await scores.awards.sanctions.catch_up()
        assert await board(scores) == shown


async def test_who_missed_a_sanction_catches_up_before_it_serves(scores: Scores) -> None:
    await scores.award(item(ADA, 50), item(BOB, 40))
    scores.fraud.sanctions = [banned(ADA)]

    await scores.awards.sanctions.catch_up()

    assert await board(scores) == [(BOB, 40)]


async def test_what_the_stream_cannot_deliver_is_fetched_while_redis_is_unavailable(
    scores: Scores, own_redis: Callable[[], AbstractContextManager[str]]
) -> None:
    await scores.award(item(ADA, 50))
    with own_redis() as url:
        pass
    feed = Redis(url)
    async with background(scores.awards.sanctions.follow(feed)):
        scores.fraud.sanctions = [banned(ADA)]

        async def hidden() -> bool:
            return await board(scores) == []

        await eventually(hidden, timeout_s=3)
    await feed.aclose()


async def test_a_ban_that_ends_by_itself_shows_the_player_again(scores: Scores) -> None:
    await scores.award(item(ADA, 50), item(BOB, 40))
    scores.fraud.sanctions = [banned(ADA, until_ms=clock.now_ms() + HOUR_MS)]
    await scores.awards.sanctions.catch_up()
    await scores.awards.sanctions.show_ended()
    assert await board(scores) == [(BOB, 40)]

    with clock.ahead(3601):
        await scores.awards.sanctions.show_ended()

        assert await board(scores) == [(ADA, 50), (BOB, 40)]


async def test_a_ban_that_ended_while_no_replica_ran_is_over_at_the_start(
    scores: Scores,
) -> None:
    await scores.award(item(ADA, 50))
    scores.fraud.sanctions = [banned(ADA, until_ms=clock.now_ms() + HOUR_MS)]
    await scores.awards.sanctions.catch_up()

    with clock.ahead(3601):
        started = Sanctions(scores.fraud_stub, scores.awards.ledger, scores.awards.publisher)
        await started.catch_up()

        assert await board(scores) == [(ADA, 50)]


async def test_an_end_never_undoes_a_later_sanction(scores: Scores) -> None:
    await scores.award(item(ADA, 50))
    scores.fraud.sanctions = [banned(ADA, 1, until_ms=clock.now_ms() + HOUR_MS)]
    await scores.awards.sanctions.catch_up()
    other = Sanctions(scores.fraud_stub, scores.awards.ledger, scores.awards.publisher)
    await other.catch_up()
    scores.fraud.sanctions = [banned(ADA, 2)]
    await other.catch_up()

    with clock.ahead(3601):
        await (
            scores.awards.sanctions.show_ended()
        )  # by a replica that has not received the second ban

    assert await board(scores) == []


async def test_sanctions_that_come_twice_late_or_to_two_replicas_change_nothing_more(
    scores: Scores,
) -> None:
    await scores.award(item(ADA, 50))
    other = Sanctions(scores.fraud_stub, scores.awards.ledger, scores.awards.publisher)
    async with background(scores.awards.sanctions.follow(scores.redis), other.follow(scores.redis)):
        await reading(scores, 2)
        await publish(scores, Sanction(user_id=ADA, kind=Sanction.NONE, version=3))
        await publish(scores, banned(ADA, 2), banned(ADA, 2))
        await publish(scores, banned(EVE, 4))

        async def applied() -> bool:
            return bool(await scores.pool.fetchval("SELECT true FROM scores.players WHERE hidden"))

        await eventually(applied)

    assert await board(scores) == [(ADA, 50)]
    hidden = await scores.pool.fetch("SELECT user_id FROM scores.players WHERE hidden")
    assert [str(row["user_id"]) for row in hidden] == [EVE]


async def test_an_older_sanction_behind_a_newer_one_is_passed_over(scores: Scores) -> None:
    await scores.award(item(ADA, 50))
    async with background(scores.awards.sanctions.follow(scores.redis)):
        await reading(scores, 1)
        await publish(scores, banned(ADA, 3), Sanction(user_id=ADA, kind=Sanction.NONE, version=2))

        async def hidden() -> bool:
            return await board(scores) == []

        await eventually(hidden)


async def test_a_player_banned_before_the_first_award_is_hidden_from_it(scores: Scores) -> None:
    scores.fraud.sanctions = [banned(EVE)]
    await scores.awards.sanctions.catch_up()

    assert (await scores.award(item(EVE, 50, username="eve")))[0].held
    assert await board(scores) == []
