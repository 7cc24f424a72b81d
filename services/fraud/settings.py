"""The settings of the fraud service."""

from dataclasses import dataclass
from typing import Annotated

from chassis.settings import Named, OneOf, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the fraud service; see `ProcessSettings` for those of every process."""

    database_url: str  # Postgres, as role fraud
    redis_url: str  # Redis, or a cluster of it
    auth_target: str  # host:port of auth, or dns:///… for several replicas; for bans
    # off: rules that count events decide nothing; their windows are still counted
    limits: Annotated[str, OneOf("default", "off"), Named("SCOREBOARD_LIMITS")] = "default"
