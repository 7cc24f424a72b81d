"""The live channels as this replica knows them: positions, windows, histories, and who watches."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

HISTORY_MAX = 256  # publications held of each channel
REPLAY_BYTES_MAX = 1024 * 1024  # of history in one state


@dataclass(frozen=True, slots=True)
class Position:
    """How far a channel has come. No epoch: nothing is known of it."""

    epoch: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """One finished client frame; on board channels also the window as it is after it, as JSON."""

    channel: str
    frame: bytes
    at_ms: int
    position: Position = Position()
    snapshot: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a gateway needs to begin with a channel, or to begin again.

    `history` is what is held after the position asked for, else all that is held.
    """

    channel: str
    position: Position = Position()
    snapshot: bytes = b""
    history: tuple[Publication, ...] = ()
    stale: bool = False
    unknown: bool = False


class Watcher(Protocol):
    """A gateway's end of the channels. Must take publications without waiting."""

    def publish(self, publication: Publication) -> None: ...

    def begin(self, state: State) -> None: ...


class Channels:
    """Every board channel, and the watchers of every channel of any kind.

    Nothing here waits, so a state built and a watcher added in one turn of the event loop
    have no publication between them.
    """

    def __init__(self) -> None:
        self._boards: dict[str, _Channel] = {}
        self._watchers: dict[str, set[Watcher]] = {}

    def add(self, channel: str) -> None:
        """A board channel; unknown to those who ask until its first publication."""
        self._boards[channel] = _Channel(channel)

    def remove(self, channel: str) -> None:
        """Ends a board channel; its watchers get an unknown state."""
        del self._boards[channel]
        for watcher in self._watchers.pop(channel, set()):
            watcher.begin(State(channel=channel, unknown=True))

    def __contains__(self, channel: str) -> bool:
        return channel in self._boards

    def names(self) -> list[str]:
        """The board channels."""
        return list(self._boards)

    def position(self, channel: str) -> Position:
        """Where a board channel stands. Raises KeyError."""
        return self._boards[channel].position

    def positions(self, channels: Iterable[str]) -> dict[str, Position]:
        """Where those of `channels` stand that are board channels."""
        return {name: self._boards[name].position for name in channels if name in self._boards}

    def snapshot(self, channel: str) -> bytes:
        """A board channel's window, as JSON. Raises KeyError."""
        return self._boards[channel].snapshot

    def state(self, channel: str, since: Position) -> State:
        """A board channel's state for one who has seen it up to `since`."""
        known = self._boards.get(channel)
        if known is None or not known.position.epoch:
            return State(channel=channel, unknown=True)
        return known.state(since)

    def watch(self, channel: str, watcher: Watcher) -> None:
        """Sends the watcher every further publication of a channel."""
        self._watchers.setdefault(channel, set()).add(watcher)

    def unwatch(self, channel: str, watcher: Watcher) -> None:
        """Ends that; nothing happens if the watcher did not watch."""
        watchers = self._watchers.get(channel, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(channel, None)

    def watched(self, channel: str) -> bool:
        """Whether anybody watches."""
        return channel in self._watchers

    def publish(self, publication: Publication) -> None:
        """Sends to a channel's watchers; nothing is kept."""
        for watcher in tuple(self._watchers.get(publication.channel, ())):
            watcher.publish(publication)

    def accept(self, publication: Publication) -> bool:
        """Takes a board channel's next publication and sends it to its watchers.

        One that was taken before is dropped. False: it does not continue what is held, so
        the history has to be read and adopted.
        """
        channel = self._boards.get(publication.channel)
        if channel is None or channel.holds(publication.position):
            return True
        if not channel.continued_by(publication):
            return False
        channel.take(publication)
        self.publish(publication)
        return True

    def adopt(self, channel: str, history: Sequence[Publication]) -> None:
        """Brings a board channel to the end of `history`, which is contiguous, oldest first.

        Watchers get what is new to them where it continues what is held, else the state.
        """
        known = self._boards.get(channel)
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
            watcher.begin(known.state(before))


@dataclass(slots=True)
class _Channel:
    """One board channel: where it stands and what led there."""

    name: str
    snapshot: bytes = b""
    position: Position = Position()
    history: deque[Publication] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def holds(self, position: Position) -> bool:
        mine = self.position
        return position.epoch == mine.epoch and position.offset <= mine.offset

    def continued_by(self, publication: Publication) -> bool:
        mine, next_ = self.position, publication.position
        return next_.epoch == mine.epoch and next_.offset == mine.offset + 1

    def take(self, publication: Publication) -> None:
        self.history.append(publication)
        self.position = publication.position
        self.snapshot = publication.snapshot

    def replace(self, history: Iterable[Publication]) -> None:
        self.history.clear()
        for publication in history:
            self.take(publication)

    def state(self, since: Position) -> State:
        history = self._after(since)
        # One who came from another replica may be ahead of this one, and misses nothing.
        complete = (
            since.epoch == self.position.epoch
            and since.offset + len(history) >= self.position.offset
        )
        if not complete:
            history = self._after(Position(self.position.epoch))
        return State(
            channel=self.name,
            position=self.position,
            snapshot=self.snapshot,
            history=history,
        )

    def _after(self, since: Position) -> tuple[Publication, ...]:
        """The newest publications after `since` that fit into one state, oldest first."""
        found: list[Publication] = []
        bytes_left = REPLAY_BYTES_MAX
        for publication in reversed(self.history):
            bytes_left -= len(publication.frame) + len(publication.snapshot)
            if publication.position.offset <= since.offset or bytes_left < 0:
                break
            found.append(publication)
        return tuple(reversed(found))
