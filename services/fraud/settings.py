"""The settings of the fraud service."""

from dataclasses import dataclass
from typing import Annotated

from chassis.redis.stream import Bound
from chassis.settings import Between, Named, OneOf, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the fraud service; see `ProcessSettings` for those of every process."""

    database_url: str  # Postgres, as role fraud
    database_pool_max: Annotated[int, Between(2, 50)] = 8  # connections to Postgres
    redis_url: str  # Redis, or a cluster of it
    auth_target: str  # host:port of auth, or dns:///… for several replicas; for bans
    scores_target: str  # the same, of scores; for what the stream of awards has lost
    # entries that the stream of sanctions may hold
    sanctions_entries_max: Annotated[int, Between(100, 100_000_000)] = 100_000
    sanctions_bytes_max: Annotated[int, Between(2**20, 2**36)] = 2**25  # the same, in bytes
    sanctions_kept_s: Annotated[float, Between(60, 30 * 86400)] = 86400.0  # how long it keeps one
    # off: rules that count events decide nothing; their windows are still counted
    limits: Annotated[str, OneOf("default", "off"), Named("SCOREBOARD_LIMITS")] = "default"

    @property
    def published_sanctions(self) -> Bound:
        """The bound of their stream."""
        return Bound(
            entries_max=self.sanctions_entries_max,
            bytes_max=self.sanctions_bytes_max,
            kept_s=self.sanctions_kept_s,
        )
