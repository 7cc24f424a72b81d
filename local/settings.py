"""The settings of `make run`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from chassis.settings import Between, Named, OneOf


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything has a default: `make run` alone is enough."""

    host: Annotated[str, Named("SCOREBOARD_HOST")] = "127.0.0.1"  # of the public port alone
    port: Annotated[int, Between(1, 65535), Named("SCOREBOARD_PORT")] = 8080
    data_dir: Annotated[Path, Named("SCOREBOARD_DATA_DIR")] = Path(".data")
    players: Annotated[int, Between(0, 500), Named("SCOREBOARD_PLAYERS")] = 20  # simulated ones
    limits: Annotated[str, OneOf("default", "off"), Named("SCOREBOARD_LIMITS")] = "default"
    bcrypt_cost: Annotated[int, Between(4, 16), Named("SCOREBOARD_BCRYPT_COST")] = 12
    batch_max: Annotated[int, Between(1, 256)] = 256
    log_level: Annotated[str, OneOf("debug", "info", "warning", "error")] = "info"
    # Moves every clock of the suite, but those of the machine, Postgres and Redis themselves.
    clock_offset_s: Annotated[float, Named("SCOREBOARD_CLOCK_OFFSET_S")] = 0.0
    # Servers to use instead of starting some. The Postgres role may create roles and schemas.
    database_url: str = ""
    redis_url: str = ""

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the suite."""
        return reached(self.host, self.port)


def reached(host: str, port: int) -> str:
    """The URL by which this machine reaches a port opened at `host`."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  It is read here, not chosen.
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
