"""The settings of the fraud service."""

from dataclasses import dataclass
from typing import Annotated

from chassis.settings import Named, OneOf, ProcessSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """Settings of the fraud service; see `ProcessSettings` for those of every process."""

    database_url: str
    redis_url: str
    auth_target: str
    # "off" disables the rules that count events; their windows are still counted.
    limits: Annotated[str, Named("SCOREBOARD_LIMITS"), OneOf("default", "off")] = "default"
