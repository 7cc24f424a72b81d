"""What realtime is told at its start."""

from dataclasses import dataclass

from chassis.settings import ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    redis_url: str
    scores_target: str  # host:port, or dns:///… for several replicas
