"""The settings of realtime."""

from dataclasses import dataclass
from typing import Annotated

from chassis.redis.stream import Bound
from chassis.settings import Between, ProcessSettings
from services.realtime.store import HISTORY


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    redis_url: str  # Redis, or a cluster of it
    scores_target: str  # host:port of scores, or dns:///… for several replicas
    # publications that the history of a live channel may hold
    history_entries_max: Annotated[int, Between(1, HISTORY.entries_max)] = HISTORY.entries_max
    # the same, in bytes
    history_bytes_max: Annotated[int, Between(2**16, 2**30)] = HISTORY.bytes_max
    # how long it keeps them once nothing is published
    history_kept_s: Annotated[float, Between(60, 90 * 86400)] = HISTORY.kept_s
    # after which gateways attach again; 0: never, since user channels lose what is published
    # between two streams
    connection_age_s: Annotated[float, Between(0, 86400)] = 0.0

    @property
    def history(self) -> Bound:
        """The bound of each channel's history."""
        return Bound(
            entries_max=self.history_entries_max,
            bytes_max=self.history_bytes_max,
            kept_s=self.history_kept_s,
        )
