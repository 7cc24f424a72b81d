"""The live channels of this replica: positions, windows, histories, and the watching gateways."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protos import realtime_pb2
from protos.realtime_pb2 import ChannelState
from services.realtime.attachment import Attachment
from services.realtime.frames import Position, Publication

HISTORY_MAX = 256  # publications kept of each channel
REPLAY_BYTES_MAX = 1024 * 1024  # of history in one state


class Channels:
    """Every board channel, and the watching gateways of channels of any kind.

    Nothing here waits but `shown`, so no publication falls between a state built and a watcher
    added in one turn of the event loop.
    """

    def __init__(self) -> None:
        self.boards: dict[str, BoardChannel] = {}
        self._watchers: dict[str, set[Attachment]] = {}

    def add(self, channel: str) -> None:
        """Adds a board channel; its state is unknown until its first publication."""
        self.boards[channel] = BoardChannel(channel)

    def remove(self, channel: str) -> None:
        """Removes a board channel; its watchers get an unknown state."""
        self.boards.pop(channel).shown.set()
        for watcher in self._watchers.pop(channel, set()):
            watcher.send_state(ChannelState(channel=channel, unknown=True))

    def known(self, channel: str) -> bool:
        """Whether there is such a board channel, with a publication."""
        board = self.boards.get(channel)
        return board is not None and bool(board.position.epoch)

    async def shown(self, channel: str) -> None:
        """Returns when a board channel has a publication, at once where there is none such."""
        if known := self.boards.get(channel):
            await known.shown.wait()

    def tops(self, channels: Iterable[str]) -> realtime_pb2.Tops:
        """Where the board channels among `channels` stand."""
        boards = [self.boards[channel] for channel in channels if channel in self.boards]
        return realtime_pb2.Tops(positions=[board.top() for board in boards])

    def state(self, channel: str, since: Position) -> ChannelState:
        """A board channel's state for a gateway that has it up to `since`."""
        if not self.known(channel):
            return ChannelState(channel=channel, unknown=True)
        return self.boards[channel].state(since)

    def watch(self, channel: str, watcher: Attachment) -> None:
        """Sends the watcher every further publication of a channel."""
        self._watchers.setdefault(channel, set()).add(watcher)

    def unwatch(self, channel: str, watcher: Attachment) -> None:
        """Ends that; does nothing if the watcher did not watch."""
        watchers = self._watchers.get(channel, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(channel, None)

    def watched(self, channel: str) -> bool:
        """Whether any gateway watches."""
        return channel in self._watchers

    def watchers(self, prefix: str) -> dict[str, tuple[Attachment, ...]]:
        """Who watches, by the channels of that prefix."""
        return {
            channel: tuple(watchers)
            for channel, watchers in self._watchers.items()
            if channel.startswith(prefix)
        }

    def publish(self, publication: Publication) -> None:
        """Sends to the watchers of a channel; nothing is kept."""
        for watcher in tuple(self._watchers.get(publication.channel, ())):
            watcher.publish(publication)

    def accept(self, publication: Publication) -> bool:
        """Keeps the next publication of a board channel and sends it to its watchers.

        A repeated one is dropped. False: publications are missing before it, so the history
        has to be read and adopted.
        """
        channel = self.boards.get(publication.channel)
        if channel is None or channel.holds(publication.position):
            return True
        if not channel.continued_by(publication):
            return False
        channel.take(publication)
        self.publish(publication)
        return True

    def adopt(self, channel: str, history: Sequence[Publication]) -> None:
        """Brings a board channel to the end of `history`, which is contiguous, oldest first.

        Watchers get the new publications where none is missing before them, else the state.
        """
        known = self.boards.get(channel)
        if known is None or not history or known.holds(history[-1].position):
            return
        new = [held for held in history if not known.holds(held.position)]
        if known.continued_by(new[0]):
            for publication in new:
                self.accept(publication)
            return
        before = known.position
        known.replace(history)
        for watcher in tuple(self._watchers.get(channel, ())):
            watcher.send_state(known.state(before))


@dataclass(slots=True)
class BoardChannel:
    """One board channel: where it stands, and its last publications."""

    name: str
    snapshot: bytes = b""  # its window, as JSON
    position: Position = field(default_factory=Position)
    history: deque[Publication] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))
    shown: asyncio.Event = field(default_factory=asyncio.Event)  # it has a position, or is removed

    def holds(self, position: Position) -> bool:
        mine = self.position
        return position.epoch == mine.epoch and position.offset <= mine.offset

    def continued_by(self, publication: Publication) -> bool:
        mine, next_ = self.position, publication.position
        return next_.epoch == mine.epoch and next_.offset == mine.offset + 1

    def top(self) -> realtime_pb2.Position:
        epoch, offset = self.position.epoch, self.position.offset
        return realtime_pb2.Position(channel=self.name, epoch=epoch, offset=offset)

    def take(self, publication: Publication) -> None:
        self.history.append(publication)
        self.position = publication.position
        self.snapshot = publication.snapshot
        self.shown.set()

    def replace(self, history: Iterable[Publication]) -> None:
        self.history.clear()
        for publication in history:
            self.take(publication)

    def state(self, since: Position) -> ChannelState:
        history = self._after(since)
        # A gateway that comes from another replica may be ahead of this one, and misses nothing.
        end = since.offset + len(history)
        if since.epoch != self.position.epoch or end < self.position.offset:
            history = self._after(Position(self.position.epoch))
        return ChannelState(
            channel=self.name,
            epoch=self.position.epoch,
            offset=self.position.offset,
            snapshot=self.snapshot,
            history=[publication.message() for publication in history],
        )

    def _after(self, since: Position) -> list[Publication]:
        """The newest publications after `since` that fit into one state, oldest first."""
        found: list[Publication] = []
        bytes_left = REPLAY_BYTES_MAX
        for publication in reversed(self.history):
            bytes_left -= publication.size
            if publication.position.offset <= since.offset or bytes_left < 0:
                break
            found.append(publication)
        return found[::-1]
