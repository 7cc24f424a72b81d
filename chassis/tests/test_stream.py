"""A bounded stream: what the writer keeps, and what the reader says it has lost."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from chassis.redis import Redis, open_redis
from chassis.redis.stream import Bound, EntriesLost, Position, StreamReader, StreamWriter
from chassis.testing import eventually

STREAM = "{s}:stream"


def writer(redis: Redis, **bound: Any) -> StreamWriter:
    limits = {"entries_max": 1_000_000, "bytes_max": 2**30, "kept_s": 3600.0, **bound}
    return StreamWriter(redis, STREAM, Bound(**limits))


async def append(stream: StreamWriter, entries: int, size: int = 100) -> None:
    while entries > 0:
        together = min(entries, 100)
        await asyncio.gather(*(stream.append(b"x" * size) for _ in range(together)))
        entries -= together


async def test_a_stream_is_bounded_by_entries_within_a_hundred(redis: Redis) -> None:
    await append(writer(redis, entries_max=1000), 3000)

    assert 1000 <= await redis.xlen(STREAM) <= 1100


@pytest.mark.parametrize("sizes", [(400,), (300, 60_000), (60_000, 300), (300, 60_000, 300)])
async def test_a_stream_is_bounded_by_bytes_also_when_entries_change_their_size(
    redis: Redis, sizes: tuple[int, ...]
) -> None:
    bytes_max = 1_000_000
    stream = writer(redis, bytes_max=bytes_max)
    for size in sizes:
        await append(stream, 1 + 2 * bytes_max // size, size)

    bytes_ = await redis.memory_usage(STREAM, samples=0)

    assert bytes_ is not None
    assert bytes_ < (1.1 if len(sizes) == 1 else 2.0) * bytes_max
    assert bytes_ > 0.7 * bytes_max or len(sizes) > 1  # the bound is made use of


async def test_a_stream_is_bounded_by_age_at_the_next_append(redis: Redis) -> None:
    now_ms = int((await redis.time())[0]) * 1000
    for number in range(500):
        await redis.xadd(STREAM, {"batch": b"old"}, id=f"{now_ms - 7_200_000}-{number + 1}")

    await append(writer(redis, kept_s=3600), 1)

    assert await redis.xlen(STREAM) <= 101


async def test_an_append_is_one_round_trip_of_one_command_but_once_a_second(redis: Redis) -> None:
    stream = writer(redis)
    await append(stream, 1)
    await redis.config_resetstat()
    await append(stream, 50)

    calls = {name: stats["calls"] for name, stats in (await redis.info("commandstats")).items()}

    assert calls["cmdstat_xadd"] == 50
    assert sum(calls.values()) - 50 <= 12  # three more once a second, INFO, RESETSTAT


async def test_a_reader_that_keeps_up_loses_nothing_however_tight_the_bound(redis: Redis) -> None:
    stream, reader = writer(redis, entries_max=100), StreamReader(redis, STREAM)
    await reader.begin()
    read = 0
    for _ in range(40):
        await append(stream, 30)
        read += len(await reader.read(count=1000, block_ms=1))

    assert read == 1200


async def test_a_reader_behind_the_bound_is_given_the_loss_and_goes_on_at_the_end(
    redis: Redis,
) -> None:
    stream, reader = writer(redis, entries_max=100), StreamReader(redis, STREAM)
    await append(stream, 10)
    await reader.begin()
    stood = reader.position
    await append(stream, 1000)

    with pytest.raises(EntriesLost) as lost:
        await reader.read(count=10, block_ms=1)

    assert stood
    assert lost.value.since_ms == stood.at_ms
    await append(stream, 1)
    assert len(await reader.read(count=10, block_ms=1)) == 1


async def test_a_position_that_was_kept_shows_the_loss_after_a_restart(redis: Redis) -> None:
    stream, reader = writer(redis, entries_max=100), StreamReader(redis, STREAM)
    await append(stream, 10)
    await reader.begin()
    kept = reader.position
    await append(stream, 1000)

    with pytest.raises(EntriesLost):
        await StreamReader(redis, STREAM, position=kept).read(count=10, block_ms=1)


async def test_a_first_reader_of_a_trimmed_stream_has_lost_its_beginning(redis: Redis) -> None:
    await append(writer(redis, entries_max=100), 1000)

    with pytest.raises(EntriesLost) as lost:
        await StreamReader(redis, STREAM, position=Position()).read(count=10, block_ms=1)

    assert lost.value.since_ms == 0


async def test_entries_that_were_read_may_be_trimmed_without_a_loss(redis: Redis) -> None:
    stream, reader = writer(redis), StreamReader(redis, STREAM)
    await append(stream, 300)
    await reader.begin()
    await redis.xtrim(STREAM, maxlen=0, approximate=False)
    assert await reader.read(count=10, block_ms=1) == []
    await append(stream, 5)

    assert len(await reader.read(count=10, block_ms=1)) == 5


@pytest.mark.parametrize("appended", [0, 1, 10, 1000])
async def test_a_stream_that_was_deleted_is_a_loss_whatever_came_after(
    redis: Redis, appended: int
) -> None:
    stream, reader = writer(redis), StreamReader(redis, STREAM)
    await append(stream, 10)
    await reader.begin()
    assert reader.position
    ended_ms = reader.position.at_ms
    await redis.delete(STREAM)

    async def later() -> bool:
        seconds, microseconds = await redis.time()
        return seconds * 1000 + microseconds // 1000 > ended_ms

    await eventually(later)  # within one millisecond the same id would be given again
    await append(stream, appended)

    with pytest.raises(EntriesLost):
        await reader.read(count=10, block_ms=1)

    await append(stream, 2)
    assert len(await reader.read(count=10, block_ms=1)) == 2


async def test_a_stream_that_is_not_there_yet_is_no_loss(redis: Redis) -> None:
    stream, reader = writer(redis), StreamReader(redis, STREAM)
    assert await reader.read(count=10, block_ms=1) == []
    await append(stream, 3)

    assert len(await reader.read(count=10, block_ms=1)) == 3


async def test_a_server_that_counts_from_further_back_is_a_loss(redis: Redis) -> None:
    reader = StreamReader(redis, STREAM)
    await redis.xadd(STREAM, {"batch": b"x"}, id="9000000000000-1")
    await reader.begin()
    await redis.delete(STREAM)
    await redis.xadd(STREAM, {"batch": b"x"}, id="5-1")

    with pytest.raises(EntriesLost):
        await reader.read(count=10, block_ms=1)

    await redis.xadd(STREAM, {"batch": b"y"}, id="6-1")
    assert [entry.batch for entry in await reader.read(count=10, block_ms=1)] == [b"y"]


async def test_a_server_that_was_restarted_may_have_lost_its_last_entries(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    """The position's entry is there again, so that nothing but the server shows it."""
    with own_redis() as url:
        async with open_redis(url) as redis:
            await redis.xadd(STREAM, {"batch": b"x"}, id="5-1")
            reader = StreamReader(redis, STREAM)
            await reader.begin()
            kept = reader.position
            await redis.save()
    with own_redis() as url:
        async with open_redis(url) as redis:
            assert await redis.xlen(STREAM) == 1
            with pytest.raises(EntriesLost):
                await StreamReader(redis, STREAM, position=kept).read(count=10, block_ms=1)


async def test_a_reader_sees_a_restart_while_it_runs(
    own_redis: Callable[[], AbstractContextManager[str]],
) -> None:
    with own_redis() as url:
        redis = Redis(url)
        await append(writer(redis), 3)
        reader = StreamReader(redis, STREAM)
        await reader.read(count=10, block_ms=1)
        await redis.save()
    with own_redis():

        async def lost() -> bool:
            try:
                await reader.read(count=10, block_ms=1)
            except EntriesLost:
                return True
            except Exception:
                return False
            return False

        await eventually(lost)
    await redis.aclose()


async def test_the_use_of_a_stream_is_measured(redis: Redis) -> None:
    await append(writer(redis, entries_max=50, bytes_max=10_000_000), 1)

    def measured(name: str) -> float | None:
        return REGISTRY.get_sample_value(f"redis_stream_{name}", {"stream": STREAM})

    assert measured("entries") == 1
    assert (measured("bytes") or 0) > 100
    assert (measured("entries_max"), measured("bytes_max")) == (50, 10_000_000)
