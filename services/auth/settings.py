"""The settings of auth: its stores, its keys, and how long tokens and sessions live."""

from dataclasses import dataclass
from typing import Annotated

from chassis.keyring import Keyring
from chassis.settings import Between, Named, ProcessSettings
from services.auth.tokens import Lifetimes, SigningKey

MINUTE_S = 60
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S

Seconds = Annotated[int, Between(1, 400 * DAY_S)]


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """What is needed to look after game servers: the settings of those commands."""

    database_url: str


@dataclass(frozen=True, kw_only=True)
class AccountSettings(StoreSettings):
    """What is needed to make an account: the settings of the command."""

    pepper: Keyring
    bcrypt_cost: Annotated[int, Between(4, 16), Named("SCOREBOARD_BCRYPT_COST")] = 12


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings, AccountSettings):
    """The settings of the process."""

    redis_url: str
    issuer: str
    audience: str
    signing_key: SigningKey
    refresh_keys: Keyring
    access_s: Seconds = 10 * MINUTE_S
    access_staff_s: Seconds = 5 * MINUTE_S
    access_client_s: Seconds = 5 * MINUTE_S
    refresh_idle_s: Seconds = 14 * DAY_S
    refresh_idle_staff_s: Seconds = 30 * MINUTE_S
    refresh_absolute_s: Seconds = 30 * DAY_S
    refresh_absolute_staff_s: Seconds = 12 * HOUR_S

    @property
    def players(self) -> Lifetimes:
        """How long the tokens of players live."""
        return Lifetimes(
            access_s=self.access_s, idle_s=self.refresh_idle_s, absolute_s=self.refresh_absolute_s
        )

    @property
    def staff(self) -> Lifetimes:
        """How long the tokens of moderators and administrators live."""
        return Lifetimes(
            access_s=self.access_staff_s,
            idle_s=self.refresh_idle_staff_s,
            absolute_s=self.refresh_absolute_staff_s,
        )
