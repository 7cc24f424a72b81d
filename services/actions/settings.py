"""The settings of the actions service."""

from dataclasses import dataclass
from typing import Annotated

from chassis.keyring import Keyring
from chassis.settings import Between, Named, OneOf, ProcessSettings, SettingsError


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings):
    """The settings of a process that runs this service."""

    database_url: str  # Postgres, as role actions
    database_pool_max: Annotated[int, Between(2, 50)] = 8  # connections to Postgres
    fraud_target: str  # host:port of fraud, or dns:///… for several replicas
    sealing_keys: Keyring  # seal the tokens; the newest seals new actions
    signing_keys: Keyring  # masters of the actions' signing keys, by the sealing keys' numbers
    points_max: Annotated[int, Between(1, 2**53 - 1)] = 1000  # an action is worth at most that
    open_max: Annotated[int, Between(1, 1000)] = 3  # open tokens of a player
    settle_wait_s: Annotated[float, Between(0, 5)] = 0.15  # of a request beyond open_max
    # off: daily caps of action types refuse no one
    limits: Annotated[str, OneOf("default", "off"), Named("SCOREBOARD_LIMITS")] = "default"

    def __post_init__(self) -> None:
        # A token carries one key number, for its seal and for its signing key.
        for number in range(256):
            if number in self.sealing_keys and number not in self.signing_keys:
                raise SettingsError(f"SIGNING_KEYS: lacks the number {number} of SEALING_KEYS")
