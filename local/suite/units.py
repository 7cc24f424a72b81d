"""The six processes: what each is started with and given, all of it on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.servers import databases
from local.settings import Settings, reached
from local.suite.processes import ROOT, Program
from protos.arrows import CALLERS

# Those called stand before their callers, so that the reverse is the order to stop in.
UNITS = ("auth", "fraud", "actions", "scores", "realtime", "gateway")
# All ports but the public one.
PORT_NAMES = (*UNITS[:-1], *(f"{unit}-ops" for unit in UNITS))

_DRAIN_S = 4.0  # what a process gets for the requests in flight
# A pool's connections and the last lines of a log need a moment after the requests.
_GRACE_S = _DRAIN_S + 10.0
_PLAYERS_GRACE_S = 5.0

# By unit: the files of the folder of secrets that it gets.
_SECRETS = {
    "auth": ("signing_key", "pepper", "refresh_keys"),
    "actions": ("sealing_keys", "signing_keys"),
    "gateway": ("idempotency_keys",),
    "scores": ("journal_keys", "cursor_keys", "seal_keys"),
}
_REDIS_USERS = ("auth", "scores", "fraud", "realtime", "gateway")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are: files below `data_dir`, and ports by the names of `PORT_NAMES`."""

    data_dir: Path
    ports: Mapping[str, int]

    @property
    def secrets(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def certificates(self) -> Path:
        return self.data_dir / "tls"


def program(unit: str, settings: Settings, places: Places) -> Program:
    """A unit's process."""
    public = unit == "gateway"
    ports = {
        "port": settings.port if public else places.ports[unit],
        "ops_port": places.ports[f"{unit}-ops"],
    }
    host = settings.host if public else "127.0.0.1"
    ready_urls = [f"{reached(host, ports['ops_port'])}/readyz"]
    return Program(
        name=unit,
        command=("-m", unit if public else f"services.{unit}"),
        environment={
            "HOST": host,
            "PORT": str(ports["port"]),
            "OPS_PORT": str(ports["ops_port"]),
            "DRAIN_S": str(_DRAIN_S),
            "LOG_LEVEL": settings.log_level,
            "BATCH_MAX": str(settings.batch_max),
            "CLOCK_OFFSET_S": str(settings.clock_offset_s),
            "TLS_DIR": str(places.certificates / unit),
            **_targets(unit, places),
            **_own(unit, settings, places),
        },
        log=places.data_dir / "logs" / f"{unit}.log",
        grace_s=_GRACE_S,
        ports=ports,
        ready_urls=[*ready_urls, f"{settings.url}/readyz"] if public else ready_urls,
    )


def simulated_players(settings: Settings, places: Places) -> Program:
    """The simulated players' process."""
    roster = places.data_dir / "players.json"
    return Program(
        name="players",
        command=("-m", "local.players", settings.url, str(settings.players), str(roster)),
        environment={"PYTHONPATH": str(ROOT / "clients" / "python")},
        log=places.data_dir / "logs" / "players.log",
        grace_s=_PLAYERS_GRACE_S,
        speaks=True,
    )


def account_environment(settings: Settings, places: Places) -> dict[str, str]:
    """The environment of the command that makes an administrator."""
    return {
        "DATABASE_URL_FILE": str(places.secrets / "auth_database_url"),
        "PEPPER_FILE": str(places.secrets / "pepper"),
        "SCOREBOARD_BCRYPT_COST": str(settings.bcrypt_cost),
    }


def _targets(unit: str, places: Places) -> dict[str, str]:
    """The addresses of the units that this one calls, by the table of arrows."""
    return {
        f"{name.upper()}_TARGET": f"127.0.0.1:{places.ports[name]}"
        for name, methods in CALLERS.items()
        if any(unit in callers for callers in methods.values())
    }


def _own(unit: str, settings: Settings, places: Places) -> dict[str, str]:
    """What not every unit is given."""
    given = {f"{name.upper()}_FILE": str(places.secrets / name) for name in _SECRETS.get(unit, ())}
    if unit in databases.UNITS:
        given |= {"DATABASE_URL_FILE": str(places.secrets / f"{unit}_database_url")}
    if unit in _REDIS_USERS:
        given |= {"REDIS_URL_FILE": str(places.secrets / "redis_url")}
    if unit in ("auth", "gateway"):
        given |= {"ISSUER": settings.url, "AUDIENCE": "scoreboard"}
    if unit in ("actions", "fraud", "gateway"):
        given |= {"SCOREBOARD_LIMITS": settings.limits}
    if unit == "auth":
        given |= {"SCOREBOARD_BCRYPT_COST": str(settings.bcrypt_cost)}
    if unit == "gateway":
        # Simulated players and test clients, all on this machine, send addresses of their own.
        given |= {"SCOREBOARD_TRUSTED_PROXIES": "127.0.0.0/8,::1/128", "WS_QUERY_TOKEN": "on"}
        # By these a browser opens pages of this machine.
        hosts = (reached(host, settings.port) for host in ("127.0.0.1", "localhost"))
        given |= {"ALLOWED_ORIGINS": ",".join(dict.fromkeys((settings.url, *hosts)))}
    return given
