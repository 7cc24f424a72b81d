"""The settings of the fraud service."""

from dataclasses import dataclass
from typing import Annotated

from chassis.redis.stream import Bound
from chassis.settings import Between, Named, OneOf, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the fraud service; see `ProcessSettings` for those of every process."""

    database_url: str
    redis_url: str
    auth_target: str
    scores_target: str  # for what the stream of events has lost
    # What the stream of sanctions may hold.
    sanctions_entries_max: Annotated[int, Between(100, 100_000_000)] = 100_000
    sanctions_bytes_max: Annotated[int, Between(2**20, 2**36)] = 2**25
    sanctions_kept_s: Annotated[float, Between(60, 30 * 86400)] = 86400.0
    # "off" disables the rules that count events; their windows are still counted.
    limits: Annotated[str, Named("SCOREBOARD_LIMITS"), OneOf("default", "off")] = "default"

    @property
    def published_sanctions(self) -> Bound:
        """The bound of their stream."""
        return Bound(
            entries_max=self.sanctions_entries_max,
            bytes_max=self.sanctions_bytes_max,
            kept_s=self.sanctions_kept_s,
        )
