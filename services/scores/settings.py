"""The settings of the scores service."""

from dataclasses import dataclass
from typing import Annotated

from chassis.keyring import Keyring
from chassis.redis.stream import Bound
from chassis.settings import Between, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """What the stream of events may hold; readers behind it catch up from the ledger."""

    # entries that the stream of awards may hold
    events_entries_max: Annotated[int, Between(100, 100_000_000)] = 1_000_000
    events_bytes_max: Annotated[int, Between(2**20, 2**36)] = 2**28  # the same, in bytes
    events_kept_s: Annotated[float, Between(60, 30 * 86400)] = 86400.0  # how long it keeps one

    @property
    def events(self) -> Bound:
        """Its bound."""
        return Bound(
            entries_max=self.events_entries_max,
            bytes_max=self.events_bytes_max,
            kept_s=self.events_kept_s,
        )


@dataclass(frozen=True, kw_only=True)
class StoreSettings(EventSettings):
    """The settings of the commands that look after the stores."""

    database_url: str  # Postgres, as role scores
    redis_url: str  # Redis, or a cluster of it
    seal_keys: Keyring  # sign the final tables of closed periods
    clock_offset_s: float = 0.0  # added to every clock; for tests


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings, EventSettings):
    """Settings of the scores service; see `ProcessSettings` for those of every process."""

    database_url: str  # Postgres, as role scores
    redis_url: str  # Redis, or a cluster of it
    # a read replica for histories and pages of closed periods; empty: the primary serves them
    database_replica_url: str = ""
    replica_lag_max_s: Annotated[float, Between(0.1, 300)] = 5.0  # beyond it the primary serves
    journal_keys: Keyring  # authenticate the awards that wait for Postgres
    journal_max: Annotated[int, Between(1, 10_000_000)] = 100_000  # awards that may wait there
    cursor_keys: Keyring  # authenticate the cursors of pages
    seal_keys: Keyring  # sign the final tables of closed periods
    actions_target: str  # host:port of actions, or dns:///… for several replicas
    fraud_target: str  # the same, of fraud
    database_pool_max: Annotated[int, Between(2, 50)] = 6  # connections to Postgres
    relay_after_s: Annotated[float, Between(0.1, 60)] = 1.0  # an award's age before it is relayed
