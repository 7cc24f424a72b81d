"""Watchers of the live channel, who note what came and when; and a line to it that can be cut."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import urlsplit

from scoreboard_client import Board, Live, Personal


@dataclass(frozen=True)
class Seen:
    """Something that came, and when by `time.perf_counter`."""

    event: Board | Personal
    at: float


@dataclass
class Watcher:
    """All that a live connection has brought so far, oldest first."""

    seen: list[Seen] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def boards(self) -> list[Board]:
        return [seen.event for seen in self.seen if isinstance(seen.event, Board)]

    @property
    def personal(self) -> list[Personal]:
        return [seen.event for seen in self.seen if isinstance(seen.event, Personal)]

    async def board(self, wanted: Callable[[Board], bool], *, timeout_s: float = 10.0) -> Seen:
        """The first board that is as wanted. Raises TimeoutError."""
        return await self._first(lambda e: isinstance(e, Board) and wanted(e), timeout_s)

    async def news(self, wanted: Callable[[Personal], bool], *, timeout_s: float = 10.0) -> Seen:
        """The first personal event that is as wanted. Raises TimeoutError."""
        return await self._first(lambda e: isinstance(e, Personal) and wanted(e), timeout_s)

    async def score(self, user_id: str, score: int, *, timeout_s: float = 10.0) -> Seen:
        """The first board on which the player has that score. Raises TimeoutError."""
        return await self.board(
            lambda board: scores(board).get(user_id) == score, timeout_s=timeout_s
        )

    async def follow(self, live: Live) -> None:
        async for event in live.events():
            self.seen.append(Seen(event, time.perf_counter()))
            self._news.set()

    async def _first(self, wanted: Callable[[Board | Personal], bool], timeout_s: float) -> Seen:
        looked_at = 0
        async with asyncio.timeout(timeout_s):
            while True:
                for seen in self.seen[looked_at:]:
                    if wanted(seen.event):
                        return seen
                looked_at = len(self.seen)
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def watching(live: Live) -> AsyncIterator[Watcher]:
    """A watcher of `live`, who has seen the board as it is.

    Raises what ended the connection for good, if anything did.
    """
    watcher = Watcher()
    task = asyncio.create_task(watcher.follow(live))
    try:
        await watcher.board(lambda _: True)
        yield watcher
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def scores(board: Board) -> dict[str, int]:
    """User id to score."""
    return {entry["userId"]: entry["score"] for entry in board.entries}


def has_gap(boards: list[Board]) -> bool:
    """Whether a change of the board is missing between two that came."""
    return any(
        after.epoch == before.epoch and after.offset > before.offset + 1
        for before, after in pairwise(boards)
    )


class Line:
    """A way to one of some servers, in turn, that passes on every byte, until it is cut.

    `targets` may change; connections that stand are left alone.
    """

    def __init__(self, *targets: str) -> None:
        self.targets = list(targets)  # URLs
        self.url = ""
        self._ends: set[asyncio.StreamWriter] = set()
        self._turns = itertools.count()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0, backlog=1024)
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Ends every connection at once and without a word."""
        for end in self._ends:
            end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._ends |= ends
        try:
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            self._ends -= ends

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not self.targets:
            raise ConnectionRefusedError
        target = urlsplit(self.targets[next(self._turns) % len(self.targets)])
        return await asyncio.open_connection(target.hostname, target.port)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.close()
