"""Batching: order kept, nothing lost, nothing twice, one bad item failing itself only."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from chassis.batching import Batcher, QueueFull
from chassis.errors import Failed, Internal, Invalid, Timeout
from chassis.rpc.server import deadline
from chassis.testing import eventually


class Peer:
    """Returns batches of numbers with their doubles; those in `bad` fail."""

    def __init__(self, *, bad: frozenset[int] = frozenset()) -> None:
        self.bad = bad
        self.flights: list[list[int]] = []
        self.at_once = 0
        self.at_once_max = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.took_off = asyncio.Event()

    async def send(self, items: list[int], timeout_s: float) -> Sequence[int | Failed]:
        self.flights.append(items)
        self.took_off.set()
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await self.gate.wait()
        await asyncio.sleep(0)
        self.at_once -= 1
        return [Invalid(f"bad {item}") if item in self.bad else 2 * item for item in items]


# What a caller does with an item: waits for it, or leaves after some turns of the loop.
arrivals = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 6))), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(arrivals=arrivals, batch_max=st.integers(1, 9), bad=st.frozensets(st.integers(0, 60)))
def test_order_no_loss_no_duplicate_and_one_bad_item_fails_alone(
    arrivals: list[tuple[int, int | None]], batch_max: int, bad: frozenset[int]
) -> None:
    async def run() -> None:
        peer = Peer(bad=bad)
        batcher = Batcher(peer.send, name="test", batch_max=batch_max)

        tasks = []
        for item, (pause, leaves_after) in enumerate(arrivals):
            await _turns(pause)
            tasks.append(asyncio.create_task(_submit(batcher, item, leaves_after)))
        answers = await asyncio.gather(*tasks)
        await batcher.drain()

        sent = [item for flight in peer.flights for item in flight]
        assert sent == sorted(set(sent))  # in the order they came, none twice
        assert all(len(flight) <= batch_max for flight in peer.flights)
        assert peer.at_once_max <= 1
        for item, (answer, (_, leaves_after)) in enumerate(zip(answers, arrivals, strict=True)):
            if answer == "left":
                assert leaves_after is not None
            else:
                assert answer == (f"bad {item}" if item in bad else 2 * item)
                assert item in sent

    asyncio.run(run())


async def _submit(batcher: Batcher[int, int], item: int, leaves_after: int | None) -> int | str:
    task = asyncio.create_task(batcher.submit(item, timeout_s=10))
    if leaves_after is not None:
        await _turns(leaves_after)
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return "left"
    except Invalid as failed:
        return failed.detail


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_idle_batcher_sends_at_once_and_gathers_while_a_flight_is_out() -> None:
    peer = Peer()
    batcher = Batcher(peer.send, name="test")
    peer.gate.clear()
    first = asyncio.create_task(batcher.submit(1, timeout_s=5))
    await peer.took_off.wait()
    rest = [asyncio.create_task(batcher.submit(item, timeout_s=5)) for item in (2, 3, 4)]
    await asyncio.sleep(0)

    peer.gate.set()

    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8]
    assert peer.flights == [[1], [2, 3, 4]]


async def test_under_load_a_flight_waits_for_company_and_without_it_not() -> None:
    peer = Peer()
    batcher = Batcher(peer.send, name="test", linger_s=0.02)

    async def two_apart() -> list[list[int]]:
        before = len(peer.flights)
        first = asyncio.create_task(batcher.submit(1, timeout_s=5))
        await _turns(20)
        await asyncio.gather(first, batcher.submit(2, timeout_s=5))
        return peer.flights[before:]

    async def together_in_a_crowd() -> bool:
        await asyncio.gather(*(batcher.submit(item, timeout_s=5) for item in range(100)))
        return await two_apart() == [[1, 2]]

    assert await two_apart() == [[1], [2]]
    await eventually(together_in_a_crowd)


async def test_each_item_fails_at_its_own_deadline_after_any_others() -> None:
    peer = Peer()
    peer.gate.clear()
    batcher = Batcher(peer.send, name="test")
    ended: list[int] = []

    async def late(item: int, timeout_s: float) -> None:
        with pytest.raises(Timeout):
            await batcher.submit(item, timeout_s=timeout_s)
        ended.append(item)

    await asyncio.gather(late(1, 0.2), late(2, 0.1), late(3, 0.3))

    assert ended == [2, 1, 3]
    peer.gate.set()
    await batcher.drain()


async def test_a_full_queue_refuses_at_once() -> None:
    peer = Peer()
    batcher = Batcher(peer.send, name="test", batch_max=1, queue_max=2)
    peer.gate.clear()
    tasks = [asyncio.create_task(batcher.submit(1, timeout_s=5))]
    await peer.took_off.wait()
    tasks += [asyncio.create_task(batcher.submit(item, timeout_s=5)) for item in (2, 3)]
    await asyncio.sleep(0)

    with pytest.raises(QueueFull) as refused:
        await batcher.submit(4, timeout_s=5)
    peer.gate.set()

    assert refused.value.retry_after_s == 1
    assert await asyncio.gather(*tasks) == [2, 4, 6]


async def test_an_item_out_of_time_fails_and_is_not_sent() -> None:
    peer = Peer()
    batcher = Batcher(peer.send, name="test")
    peer.gate.clear()
    first = asyncio.create_task(batcher.submit(1, timeout_s=5))
    await peer.took_off.wait()

    with pytest.raises(Timeout):
        await batcher.submit(2, timeout_s=0.001)
    peer.gate.set()

    assert await first == 2
    await batcher.drain()
    assert peer.flights == [[1]]


async def test_a_flight_is_given_the_time_of_its_most_patient_item() -> None:
    given_s: list[float] = []

    async def send(items: list[int], timeout_s: float) -> Sequence[int]:
        given_s.append(timeout_s)
        return items

    batcher = Batcher(send, name="test")
    await asyncio.gather(batcher.submit(1, timeout_s=1), batcher.submit(2, timeout_s=9))

    assert 8 < given_s[0] <= 9


async def test_a_flight_that_fails_fails_its_own_items_only() -> None:
    flights = 0

    async def send(items: list[int], timeout_s: float) -> Sequence[int]:
        nonlocal flights
        flights += 1
        if flights == 1:
            raise Invalid("first")
        return items

    batcher = Batcher(send, name="test")
    first = await asyncio.gather(
        batcher.submit(1, timeout_s=1), batcher.submit(2, timeout_s=1), return_exceptions=True
    )

    assert [str(failed) for failed in first] == ["INVALID: first"] * 2
    assert first[0] is not first[1]
    assert await batcher.submit(3, timeout_s=1) == 3


async def test_a_peer_that_returns_too_few_fails_the_flight() -> None:
    async def send(items: list[int], timeout_s: float) -> Sequence[int]:
        return items[1:]

    with pytest.raises(Internal, match="1 items were sent, 0 results came back"):
        await Batcher(send, name="test").submit(1, timeout_s=1)


async def test_a_flight_has_nothing_of_the_request_that_began_it() -> None:
    seen: list[float | None] = []

    async def send(items: list[int], timeout_s: float) -> Sequence[int | Failed]:
        seen.append(deadline.get())
        return items

    deadline.set(1.0)
    try:
        await Batcher(send, name="test").submit(1, timeout_s=5)
    finally:
        deadline.set(None)

    assert seen == [None]


async def test_a_named_batcher_counts_its_flights_and_shows_how_many_wait() -> None:
    peer = Peer()
    batcher = Batcher(peer.send, name="counted")
    peer.gate.clear()
    first = asyncio.create_task(batcher.submit(1, timeout_s=5))
    await peer.took_off.wait()
    rest = [asyncio.create_task(batcher.submit(item, timeout_s=5)) for item in (2, 3, 4)]
    await asyncio.sleep(0)

    assert _metric("batch_queue_items") == 3

    peer.gate.set()
    await asyncio.gather(first, *rest)

    assert _metric("batch_queue_items") == 0
    assert _metric("batch_items_count") == 2
    assert _metric("batch_items_sum") == 4


def _metric(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"name": "counted"})
