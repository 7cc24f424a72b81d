"""What the scores service is told."""

from dataclasses import dataclass
from typing import Annotated

from chassis.settings import Between, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the scores service; see `ProcessSettings` for those of every process."""

    database_url: str
    redis_url: str
    actions_target: str
    fraud_target: str
    database_pool_max: Annotated[int, Between(2, 50)] = 6
    relay_after_s: Annotated[float, Between(0.1, 60)] = 1.0  # an award's age before it is relayed
