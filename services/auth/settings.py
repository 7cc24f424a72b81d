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

    database_url: str  # Postgres, as role auth


@dataclass(frozen=True, kw_only=True)
class AccountSettings(StoreSettings):
    """What is needed to make an account: the settings of the command."""

    pepper: Keyring  # mixed into every password
    # the work of one password; hashes of another cost are renewed at the next login
    bcrypt_cost: Annotated[int, Between(4, 16), Named("SCOREBOARD_BCRYPT_COST")] = 12


@dataclass(frozen=True, kw_only=True)
class Settings(ProcessSettings, AccountSettings):
    """The settings of the process."""

    database_pool_max: Annotated[int, Between(2, 50)] = 8  # connections to Postgres
    redis_url: str  # Redis, or a cluster of it
    issuer: str  # claim iss of access tokens; the gateway's must be the same
    audience: str  # claim aud of access tokens; the gateway's must be the same
    signing_key: SigningKey  # signs access tokens: an RSA private key in PEM, 3072 bits or more
    refresh_keys: Keyring  # make refresh tokens
    access_s: Seconds = 10 * MINUTE_S  # life of a player's access token
    access_staff_s: Seconds = 5 * MINUTE_S  # life of a moderator's or administrator's
    access_client_s: Seconds = 5 * MINUTE_S  # life of a game server's
    refresh_idle_s: Seconds = 14 * DAY_S  # after which an unused session is over
    refresh_idle_staff_s: Seconds = 30 * MINUTE_S  # the same, of staff
    refresh_absolute_s: Seconds = 30 * DAY_S  # after which a session is over however it is used
    refresh_absolute_staff_s: Seconds = 12 * HOUR_S  # the same, of staff

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
