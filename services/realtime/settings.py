"""The settings of realtime."""

from dataclasses import dataclass
from typing import Annotated

from chassis.settings import Between, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    redis_url: str  # Redis, or a cluster of it
    scores_target: str  # host:port of scores, or dns:///… for several replicas
    # after which gateways attach again; 0: never, since user channels lose what is published
    # between two streams
    connection_age_s: Annotated[float, Between(0, 86400)] = 0.0
