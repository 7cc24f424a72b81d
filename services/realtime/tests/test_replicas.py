"""Several replicas, their ends, and losses of Redis."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from chassis import clock
from chassis.redis import Redis, open_redis
from services.realtime.frames import Position, Publication
from services.realtime.store import Draft, LiveStore
from services.realtime.tests.gateway import BOARD
from services.realtime.tests.replica import Attach, NewReplica, Replica
from services.realtime.tests.scores import FakeScores


async def test_one_of_two_replicas_builds_and_both_publish_the_same(
    new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    first, second = await new_replica(), await new_replica()
    here, there = await attach(first, BOARD), await attach(second, BOARD)
    for gateway in (here, there):
        await gateway.begun()
    before = scores.top_calls

    for n in range(10):
        await scores.award(("ada", 1))
        for gateway in (here, there):
            await gateway.leads(n + 1)

    assert here.publications() == there.publications()
    assert here.position() == there.position()
    # Two boards, and each of ten changes requested by one replica only.
    assert scores.top_calls - before <= 20


async def test_another_replica_goes_on_where_a_killed_one_stopped(
    new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    first, second = await new_replica(), await new_replica()
    gateway = await attach(second, BOARD)
    await scores.award(("ada", 1))
    await gateway.leads(1)
    before = gateway.position()

    await first.kill()
    await scores.award(("ada", 1))
    with clock.ahead(6):
        await gateway.leads(2)

    assert gateway.position() == (before[0], before[1] + 1)


async def test_a_replica_that_stops_hands_over_without_waiting_for_its_lease(
    new_replica: NewReplica, attach: Attach, scores: FakeScores, redis: Redis
) -> None:
    first, second = await new_replica(), await new_replica()
    gateway = await attach(second, BOARD)
    await gateway.begun()
    holder = await redis.hget("live:lease:all_time", "holder")

    await first.stop()
    await scores.award(("ada", 1))

    await gateway.leads(1, timeout_s=3)  # the lease would have lasted for 4 s and more
    assert await redis.hget("live:lease:all_time", "holder") != holder


async def test_a_restart_is_repaired_by_attaching_again(
    new_replica: NewReplica, attach: Attach, scores: FakeScores
) -> None:
    first = await new_replica()
    gateway = await attach(first, BOARD)
    await scores.award(("ada", 1))
    await gateway.leads(1)
    epoch, offset = gateway.position()

    await first.stop()
    await scores.award(("ada", 1))
    again = await attach(await new_replica())
    await again.watch(BOARD, epoch=epoch, offset=offset)
    await again.leads(2)

    missed = [*again.states()[0].history, *again.publications()]
    assert [(item.epoch, item.offset) for item in missed] == [(epoch, offset + 1)]


async def test_a_builder_that_lost_the_lease_can_publish_no_more(redis: Redis) -> None:
    store = LiveStore(redis)
    [old] = await store.lease(["b"], holder="one", ttl_ms=5_000)
    assert await store.lease(["b"], holder="two", ttl_ms=5_000) == [0]
    with clock.ahead(5.1):
        [new] = await store.lease(["b"], holder="two", ttl_ms=5_000)
    assert new > old > 0

    assert await store.publish([_draft(1, fence=new)]) == ["published"]
    assert await store.publish([_draft(2, fence=old)]) == ["fenced"]
    assert await store.publish([_draft(2, fence=new)]) == ["published"]
    position, _ = await store.stored("leaderboard:b")
    assert position == Position("e", 2)


async def test_a_publication_that_continues_something_else_is_refused(redis: Redis) -> None:
    store = LiveStore(redis)
    await store.publish([_draft(1, fence=1), _draft(2, fence=1)])

    assert await store.publish([_draft(2, fence=1), _draft(4, fence=1)]) == ["moved", "moved"]
    _, history = await store.stored("leaderboard:b")
    assert len(history) == 2


async def test_when_redis_lost_its_data_all_gateways_get_a_new_epoch(
    new_replica: NewReplica, attach: Attach, scores: FakeScores, redis: Redis
) -> None:
    gateways = [await attach(await new_replica(), BOARD) for _ in range(2)]
    for n in range(3):
        await scores.award(("ada", 1))
        for gateway in gateways:
            await gateway.leads(n + 1)
    before = gateways[0].position()[0]

    await redis.flushall()
    for gateway in gateways:
        await gateway.moved_on(before)
    assert gateways[0].position() == gateways[1].position()
    await scores.award(("ada", 1))
    for gateway in gateways:
        await gateway.leads(4)

    assert gateways[0].position() == gateways[1].position()


async def test_when_redis_lost_the_last_changes_all_gateways_get_a_new_epoch(
    replica: Replica, attach: Attach, scores: FakeScores, redis: Redis
) -> None:
    gateway = await attach(replica, BOARD)
    for n in range(3):
        await scores.award(("ada", 1))
        await gateway.leads(n + 1)
    epoch, offset = gateway.position()

    # As on a server that took over before the last change reached it.
    await redis.xdel(f"live:{{channels}}:{BOARD}", f"{offset}-0")
    await redis.hset(f"live:{{channels}}:{BOARD}:meta", "offset", str(offset - 1))

    await gateway.moved_on(epoch)
    assert gateway.best() == 3


async def test_while_redis_is_unavailable_boards_are_shown_and_afterwards_move_again(
    new_replica: NewReplica,
    attach: Attach,
    scores: FakeScores,
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with own_redis() as url:
        replica = await new_replica(url)
        gateway = await attach(replica, BOARD)
        await gateway.begun()
        before = gateway.position()[0]

    late = await attach(replica, BOARD)
    await late.until(late.states)
    assert late.position()[0] == before

    with own_redis():
        await gateway.moved_on(before)
        async with open_redis(url) as client:
            scores.use(client)
            await scores.award(("ada", 1))
        await gateway.leads(1)
        await replica.kill()


def _draft(offset: int, *, fence: int) -> Draft:
    publication = Publication("leaderboard:b", b"{}", 1, Position("e", offset), b"{}")
    return Draft(publication, fence, Position("e", offset - 1) if offset > 1 else Position())


async def test_changes_made_while_scores_was_unavailable_are_shown_afterwards(
    replica: Replica, attach: Attach, scores: FakeScores
) -> None:
    gateway = await attach(replica, BOARD)
    await gateway.begun()
    scores.unavailable = True
    await scores.award(("ada", 1))
    # More often than the client tries one call.
    await gateway.until(lambda: scores.refused > 3)

    scores.unavailable = False

    await gateway.leads(1)
