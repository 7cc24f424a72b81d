"""What is published on live channels, and where a channel stands."""

from dataclasses import dataclass

from protos import realtime_pb2


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

    def message(self) -> realtime_pb2.Publication:
        """The publication as gateways get it."""
        return realtime_pb2.Publication(
            channel=self.channel,
            epoch=self.position.epoch,
            offset=self.position.offset,
            frame=self.frame,
            snapshot=self.snapshot,
            at_ms=self.at_ms,
        )
