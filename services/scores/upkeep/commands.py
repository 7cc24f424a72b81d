"""The operator's commands, `python -m services.scores …`, also while the service runs."""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog

from chassis import clock, postgres, usage
from chassis.errors import Failed
from chassis.postgres import Database, open_database
from chassis.process import background
from chassis.redis import UNAVAILABLE, Redis, open_redis
from chassis.rpc.client import open_channel
from chassis.rpc.tls import open_identity
from chassis.settings import SettingsError, load
from protos.actions_pb2_grpc import ActionsStub
from protos.fraud_pb2_grpc import FraudStub
from services.scores.awards import Awards
from services.scores.boards import Boards
from services.scores.boards.rules import Period
from services.scores.periods import Periods
from services.scores.periods.store import Closed, ClosingStore
from services.scores.settings import Settings, StoreSettings
from services.scores.upkeep import Upkeep
from services.scores.upkeep.auditor import SWEPT

RIGHT, WRONG = 0, 1  # exit codes
SHOW_S = 0.5


def run(arguments: Sequence[str]) -> tuple[str, int]:
    """Runs a command. Returns what was found or done, and the exit code: 1 where something was
    wrong. Exits the process where it cannot be run."""
    given = _parser().parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("error"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    work: Coroutine[Any, Any, tuple[str, int]] = given.work(given)
    try:
        return asyncio.run(work)
    except SettingsError as problems:
        sys.stderr.write(f"scores: the settings do not fit\n{problems}\n")
        sys.exit(2)
    except (Failed, *UNAVAILABLE, *postgres.UNAVAILABLE) as problem:
        sys.exit(f"scores: {problem}")


def _parser() -> argparse.ArgumentParser:
    parser = usage.parser(Settings)
    parser.description = "The process; or, given arguments, one of its commands."
    commands = parser.add_subparsers(required=True)

    rebuild = commands.add_parser(
        "rebuild", help="empty boards in Redis and fill them from Postgres; reads are degraded"
    )
    rebuild.set_defaults(work=_rebuild)

    audit = commands.add_parser("audit", help="compare all of the boards with Postgres")
    audit.add_argument("--repair", action="store_true", help="repair what is wrong")
    audit.add_argument(
        "--seals", action="store_true", help="instead, prove closed periods from the ledger"
    )
    audit.set_defaults(work=_audit)

    for command in (rebuild, audit):
        command.add_argument("--board", help="this one alone")

    replay = commands.add_parser("replay", help="write what waits in the journal, now")
    replay.set_defaults(work=_replay)
    return parser


_Opened = tuple[Boards, Database, Redis]  # what every room is made of


@asynccontextmanager
async def _stores(settings: StoreSettings | Settings) -> AsyncIterator[_Opened]:
    clock.set_offset(settings.clock_offset_s)
    async with (
        open_database(settings.database_url, connections_max=3) as database,
        open_redis(settings.redis_url) as redis,
    ):
        boards = Boards(database, redis, events=settings.events)
        await boards.registry.refresh()
        yield boards, database, redis


def _open(boards: Boards, board: str | None) -> list[Period]:
    """The open periods of that board, or of all. Raises BoardNotFound."""
    known = [boards.registry.get(board)] if board else boards.registry.listed()
    return [period for k in known for period in k.open()]


async def _rebuild(given: argparse.Namespace) -> tuple[str, int]:
    """The process that has the lease rebuilds: the running service, or this one."""
    async with _stores(load(StoreSettings)) as (boards, database, redis):
        periods, upkeep = _open(boards, given.board), Upkeep(boards, database, redis)
        began = time.monotonic()
        for period in periods:
            await upkeep.redis_boards.begin(period, wipe=False)
        async with background(upkeep.rebuild.run()):
            while not all([await upkeep.redis_boards.ready(period) for period in periods]):
                if progress := await upkeep.rebuild.progress():
                    _show(f"{progress.done} of {progress.players} players")
                await asyncio.sleep(SHOW_S)
        tags = ", ".join(period.tag for period in periods)
        return f"rebuilt {tags} in {time.monotonic() - began:.1f} s", RIGHT


async def _audit(given: argparse.Namespace) -> tuple[str, int]:
    if given.seals:
        return await _seals(given.board)
    async with _stores(load(StoreSettings)) as (boards, database, redis):
        upkeep = Upkeep(boards, database, redis)
        lines, wrong = [], 0
        for period in _open(boards, given.board):
            _show(period.tag)
            checked, found = await upkeep.auditor.sweep(period, repair=given.repair)
            wrong += found
            lines.append(f"{period.tag}: checked {checked}, wrong {found}")
        after: str | None = None
        counted = miscounted = 0
        while users := await upkeep.store.users(after=after, limit=SWEPT):
            after = users[-1]
            counted += len(users)
            _show(f"ledger: {counted} players")
            miscounted += await upkeep.auditor.count(users)
        lines.append(f"ledger: counted {counted} players again, wrong {miscounted}")
    if given.repair and not miscounted:
        return "\n".join([*lines, "repaired"] if wrong else lines), RIGHT
    return "\n".join(lines), WRONG if wrong or miscounted else RIGHT


async def _seals(board: str | None) -> tuple[str, int]:
    settings = load(StoreSettings)
    async with _stores(settings) as (boards, database, redis):
        keys = settings.seal_keys
        store = Periods(boards, database, redis, reader=database, seal_keys=keys).store
        lines, wrong = [], 0
        for closed in await store.closed(board):
            name = f"{closed.board}:{closed.id}"
            _show(name)
            problems = await _problems(store, closed)
            wrong += bool(problems)
            verdict = "; ".join(problems) or "proved"
            lines.append(f"{name}: {closed.players} players, {closed.hash.hex()}, {verdict}")
        lines.append(f"{len(lines)} closed periods, wrong {wrong}")
        return "\n".join(lines), WRONG if wrong else RIGHT


async def _problems(store: ClosingStore, closed: Closed) -> list[str]:
    problems = []
    if await store.table_hash(closed) != closed.hash:
        problems.append("THE TABLE WAS CHANGED")
    if await store.ledger_hash(closed) != closed.hash:
        problems.append("THE LEDGER SAYS OTHERWISE")
    try:
        if not store.signed(closed):
            problems.append("THE SIGNATURE IS NOT OURS")
    except KeyError:
        problems.append(f"key {closed.key_id} is not in the ring")
    return problems


async def _replay(given: argparse.Namespace) -> tuple[str, int]:
    settings = load(Settings)
    async with (
        open_identity(settings) as identity,
        _stores(settings) as (boards, database, redis),
        open_channel(settings.actions_target, unit="actions", identity=identity) as actions,
        open_channel(settings.fraud_target, unit="fraud", identity=identity) as fraud,
    ):
        awards = Awards(
            boards,
            database,
            redis,
            actions=ActionsStub(actions),
            fraud=FraudStub(fraud),
            settings=settings,
        )
        waiting = await awards.journal.waiting()
        _show(f"{waiting} wait")
        await awards.journal.drain()
        await awards.drain()
        left = await awards.journal.waiting()
        text = f"{waiting} waited, {waiting - left} were worked off, {left} are left"
        return text, WRONG if left else RIGHT


def _show(progress: str) -> None:
    sys.stderr.write(f"{progress}\n")
    sys.stderr.flush()
