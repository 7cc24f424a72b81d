"""The settings of `make run`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from chassis.settings import Between, Named


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Its own, beside those of the units; everything has a default."""

    # where the public port is opened, alone of all ports
    host: Annotated[str, Named("SCOREBOARD_HOST")] = "127.0.0.1"
    port: Annotated[int, Between(1, 65535), Named("SCOREBOARD_PORT")] = 8080  # the public port
    # where databases, secrets, certificates and logs are kept
    data_dir: Annotated[Path, Named("SCOREBOARD_DATA_DIR")] = Path(".data")
    players: Annotated[int, Between(0, 500), Named("SCOREBOARD_PLAYERS")] = 50  # simulated players
    # a Postgres (15 or newer) to use instead of an own one, of a role that may create roles and
    # schemas
    database_url: str = ""
    redis_url: str = ""  # a Redis (7.0 or newer) or Valkey to use instead of an own one

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the suite."""
        return reached(self.host, self.port)


def reached(host: str, port: int) -> str:
    """The URL by which this machine reaches a port opened at `host`."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  It is read here, not chosen.
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
