"""What is published on live channels, and where a channel stands."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """An epoch and the offset in it. No epoch: unknown."""

    epoch: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """One finished client frame; on board channels also the window after it, as JSON."""

    channel: str
    frame: bytes
    at_ms: int
    position: Position = Position()
    snapshot: bytes = b""

    @property
    def size(self) -> int:
        """Its payload in bytes."""
        return len(self.frame) + len(self.snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that a gateway needs to show a channel.

    `history` holds the publications after the requested position, else all that are kept.
    """

    channel: str
    position: Position = Position()
    snapshot: bytes = b""
    history: tuple[Publication, ...] = ()
    stale: bool = False
    unknown: bool = False
