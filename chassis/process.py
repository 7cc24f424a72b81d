"""A process of the suite from its first line to its exit."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import uvloop

from chassis import clock, telemetry, usage
from chassis.errors import Failed
from chassis.settings import ProcessSettings, SettingsError, load
from chassis.telemetry import log

S = TypeVar("S", bound=ProcessSettings)
T = TypeVar("T")

OPEN_FILES = 65_536


def run(unit: str, settings_class: type[S], main: Callable[[S], Coroutine[Any, Any, None]]) -> None:
    """Reads the settings, sets up logs and clock, runs `main`, exits.

    `--help` prints the settings. What does not fit ends the process with code 2: settings
    with one line per problem, arguments with the usage.
    """
    usage.parser(settings_class).parse_args()
    try:
        settings = load(settings_class)
    except SettingsError as problems:
        sys.stderr.write(f"{unit}: the settings do not fit\n{problems}\n")
        sys.exit(2)
    telemetry.configure(
        unit,
        level=settings.log_level,
        otlp_endpoint=settings.otlp_endpoint,
        sample_ratio=settings.otlp_sample_ratio,
    )
    clock.set_offset(settings.clock_offset_s)
    allow_open_files()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_life(main(settings)))
    except Exception as error:
        # A line as any other, so that it is found where lines are collected.
        log.critical("process_crashed", error=repr(error), exc_info=True)
        sys.exit(1)
    finally:
        telemetry.close()


async def _life(main: Coroutine[Any, Any, None]) -> None:
    """Runs `main` to its end. A signal that comes before it serves ends it as it starts."""
    stop = stop_signal()  # until `serve` takes the signals over
    working = asyncio.create_task(main)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        log.info("start_abandoned")
        await _end({working})
    stopping.cancel()
    if not working.cancelled():
        working.result()
    log.info("stopped")


def stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once, with 128 + its
    number."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            # Not the default, which the kernel leaves out for the first process of a container.
            signal.signal(number, lambda number, _: os._exit(128 + number))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return stop


def allow_open_files() -> None:
    """Lets this process have as many open files, and so sockets, as it is allowed to ask for.

    The usual soft limit of 1,024 is for programs that use `select`; we are none.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def repeat(work: Callable[[], Awaitable[object]], *, pause_s: float) -> None:
    """Calls `work` every `pause_s`, forever; a call that fails is logged and made again."""
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("repeated_work_failed", work=repr(work), error=repr(error))
        await asyncio.sleep(pause_s)


async def when_reached(
    connect: Callable[[], Awaitable[T]], unavailable: tuple[type[Exception], ...], event: str
) -> T:
    """What `connect` returns, tried again for up to 30 s while it raises one of `unavailable`.

    Each failure is logged as `event`.
    """
    for pause_s in (0.1, 0.2, 0.4, 0.8, 1.6, 3, 3, 3, 3, 3, 3, 3, 3):
        try:
            return await connect()
        except unavailable as error:
            log.warning(event, error=repr(error))
            await asyncio.sleep(pause_s)
    return await connect()


async def until_done(attempt: Callable[[], Awaitable[None]]) -> None:
    """Tries again for as long as a peer is unavailable: the process is not ready meanwhile."""
    pause_s = 0.1
    while True:
        try:
            return await attempt()
        except (Failed, ValueError) as error:
            log.warning("peer_awaited", error=repr(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 3.0)


@asynccontextmanager
async def background(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs works that never end for as long as the context.

    What one of them cannot cope with ends the context with an ExceptionGroup, so that the
    process ends loudly and is started again, instead of living on without it.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = {group.create_task(work) for work in works}
        try:
            yield
        except Exception as error:
            failure = error  # the context's own, which the group would wrap
        finally:
            await _end(tasks)
    if failure is not None:
        raise failure


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Runs works that never end as one, until it is cancelled or one of them fails."""
    async with background(*works):
        await asyncio.Event().wait()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    # Redis' client awaits its sends by `asyncio.wait_for`, which before Python 3.12 loses a
    # cancellation that comes as the send returns. So it is repeated until all have ended.
    while tasks:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):  # repeated by an outer `_end`
            _, tasks = await asyncio.wait(tasks, timeout=0.1)
