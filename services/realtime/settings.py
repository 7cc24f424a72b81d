"""The settings of realtime."""

from dataclasses import dataclass
from typing import Annotated

from chassis.settings import Between, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    redis_url: str
    scores_target: str  # host:port, or dns:///… for several replicas
    # Gateways stay attached: user channels lose what is published between two streams.
    connection_age_s: Annotated[float, Between(0, 86400)] = 0.0
