"""What an operator does by `python -m services.scores …`, also while the service runs."""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from chassis import clock
from chassis.client import open_channel
from chassis.errors import Failed
from chassis.postgres import Database, open_pool
from chassis.redis import AWAY, Redis, open_redis
from chassis.settings import SettingsError, load
from chassis.tls import Identity
from protos.actions_pb2_grpc import ActionsStub
from services.scores.awards.journal import Journal
from services.scores.awards.publish import Telling
from services.scores.awards.store import Ledger
from services.scores.boards import keyspace
from services.scores.boards.events import Events
from services.scores.boards.places import Boards
from services.scores.boards.registry import Registry
from services.scores.boards.rules import Board, Period
from services.scores.boards.store import Standings
from services.scores.periods.seals import Seals
from services.scores.periods.store import Closed, Closing
from services.scores.settings import Settings, StoreSettings
from services.scores.upkeep.auditor import SWEPT, Auditor
from services.scores.upkeep.rebuild import Rebuild

RIGHT, WRONG = 0, 1  # exit codes
SHOW_S = 0.5

Where = tuple[Board, Period]


def run(arguments: Sequence[str]) -> tuple[str, int]:
    """Runs a command; answers what was found or done, and the exit code: 1 where something was
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
    except (Failed, *AWAY) as problem:
        sys.exit(f"scores: {problem}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.scores")
    commands = parser.add_subparsers(required=True)

    rebuild = commands.add_parser(
        "rebuild", help="empty boards in Redis and fill them from Postgres; reads are degraded"
    )
    rebuild.set_defaults(work=_rebuild)

    audit = commands.add_parser("audit", help="hold all of the boards against Postgres")
    audit.add_argument("--repair", action="store_true", help="make right what is wrong")
    audit.add_argument(
        "--seals", action="store_true", help="instead, prove closed periods from the ledger"
    )
    audit.set_defaults(work=_audit)

    for command in (rebuild, audit):
        command.add_argument("--board", help="this one alone")

    replay = commands.add_parser("replay", help="award what waits in the journal, now")
    replay.set_defaults(work=_replay)
    return parser


@dataclass(frozen=True)
class _Stores:
    """What the commands work on."""

    database: Database
    redis: Redis
    registry: Registry
    standings: Standings
    ledger: Ledger
    boards: Boards

    def wheres(self, board: str | None) -> list[Where]:
        """The open periods of a board or of all. Raises BoardNotFound."""
        known = [self.registry.get(board)] if board else self.registry.listed()
        return [(k.board, period) for k in known for period in k.open()]


@asynccontextmanager
async def _stores(settings: StoreSettings | Settings) -> AsyncIterator[_Stores]:
    clock.set_offset(settings.clock_offset_s)
    async with (
        open_pool(settings.database_url, size_max=3) as pool,
        open_redis(settings.redis_url) as redis,
    ):
        database = Database(pool)
        standings = Standings(database)
        registry = Registry(standings)
        await registry.refresh()
        ledger = Ledger(database, registry.refresh)
        boards = Boards(redis, registry, ledger.names, standings)
        yield _Stores(database, redis, registry, standings, ledger, boards)


async def _rebuild(given: argparse.Namespace) -> tuple[str, int]:
    """Whoever has the lease rebuilds: the running service, or this process."""
    async with _stores(load(StoreSettings)) as stores:
        wheres = stores.wheres(given.board)
        rebuild = Rebuild(stores.redis, stores.boards, stores.registry, stores.standings)
        began = time.monotonic()
        for where in wheres:
            await stores.boards.begin_rebuild(*where, wipe=False)
        working = asyncio.create_task(rebuild.run())
        try:
            while not all([await stores.boards.ready(*where) for where in wheres]):
                if told := await rebuild.progress():
                    _show(f"{told.done} of {told.players} players")
                await asyncio.sleep(SHOW_S)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        tags = ", ".join(keyspace.tag(*where) for where in wheres)
        return f"rebuilt {tags} in {time.monotonic() - began:.1f} s", RIGHT


async def _audit(given: argparse.Namespace) -> tuple[str, int]:
    if given.seals:
        return await _seals(given.board)
    async with _stores(load(StoreSettings)) as stores:
        auditor = Auditor(stores.boards, stores.registry, stores.standings)
        lines, wrong = [], 0
        for where in stores.wheres(given.board):
            _show(keyspace.tag(*where))
            looked, found = await auditor.sweep(where, repair=given.repair)
            wrong += found
            lines.append(f"{keyspace.tag(*where)}: looked at {looked}, wrong {found}")
        after: str | None = None
        counted = miscounted = 0
        while users := await stores.standings.users(after=after, limit=SWEPT):
            after = users[-1]
            counted += len(users)
            _show(f"ledger: {counted} players")
            miscounted += await auditor.count(users)
        lines.append(f"ledger: counted {counted} players anew, wrong {miscounted}")
    if given.repair and not miscounted:
        return "\n".join([*lines, "repaired"] if wrong else lines), RIGHT
    return "\n".join(lines), WRONG if wrong or miscounted else RIGHT


async def _seals(board: str | None) -> tuple[str, int]:
    settings = load(StoreSettings)
    async with _stores(settings) as stores:
        seals = Seals(settings.seal_keys)
        closing = Closing(stores.database, seals)
        lines, wrong = [], 0
        for closed in await closing.closed(board):
            name = f"{closed.board}:{closed.period.id}"
            _show(name)
            problems = await _problems(closing, seals, closed)
            wrong += bool(problems)
            verdict = "; ".join(problems) or "proved"
            lines.append(f"{name}: {closed.players} players, {closed.hash.hex()}, {verdict}")
        lines.append(f"{len(lines)} closed periods, wrong {wrong}")
        return "\n".join(lines), WRONG if wrong else RIGHT


async def _problems(closing: Closing, seals: Seals, closed: Closed) -> list[str]:
    problems = []
    if await closing.table_hash(closed.board, closed.period) != closed.hash:
        problems.append("THE TABLE WAS CHANGED")
    if await closing.ledger_hash(closed.board, closed.period) != closed.hash:
        problems.append("THE LEDGER SAYS OTHERWISE")
    try:
        if not seals.verify(closed.hash, closed.signature, key_id=closed.key_id):
            problems.append("THE SIGNATURE IS NOT OURS")
    except KeyError:
        problems.append(f"key {closed.key_id} is not in the ring")
    return problems


async def _replay(given: argparse.Namespace) -> tuple[str, int]:
    settings = load(Settings)
    identity = Identity.read(settings.tls_dir)
    async with (
        _stores(settings) as stores,
        open_channel(settings.actions_target, unit="actions", identity=identity) as actions,
    ):
        events = Events(stores.redis, stores.registry)
        telling = Telling(
            stores.ledger, stores.standings, stores.boards, events, actions=ActionsStub(actions)
        )
        journal = Journal(
            stores.redis,
            settings.journal_keys,
            stores.ledger,
            telling,
            items_max=settings.journal_max,
        )
        waiting = await journal.waiting()
        _show(f"{waiting} wait")
        await journal.drain()
        await telling.drain()
        left = await journal.waiting()
        text = f"{waiting} waited, {waiting - left} were worked off, {left} are left"
        return text, WRONG if left else RIGHT


def _show(progress: str) -> None:
    sys.stderr.write(f"{progress}\n")
    sys.stderr.flush()
