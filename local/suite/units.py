"""The six processes: what each is started with and given, all of it on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.servers import databases
from local.settings import DRAIN_S, Settings, reached
from local.suite.processes import ROOT, Program
from protos.arrows import CALLERS

# Who is called stands before who calls, so that the reverse is the order to stop in.
UNITS = ("auth", "fraud", "actions", "scores", "realtime", "gateway")

# A pool's connections and the last lines of a log need a moment after the requests.
_GRACE_S = DRAIN_S + 10.0
_PLAYERS_GRACE_S = 5.0

# By unit: the files of the folder of secrets that it gets.
_SECRETS = {
    "auth": ("signing_key", "pepper", "refresh_keys"),
    "actions": ("sealing_keys", "signing_keys"),
    "gateway": ("idempotency_keys",),
    "scores": ("journal_keys", "cursor_keys", "seal_keys"),
}
_NAMES = ("127.0.0.1", "localhost")  # by which pages of this machine are opened
_REDIS_USERS = ("auth", "scores", "fraud", "realtime", "gateway")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things are: files below `data_dir`, and ports by the names of `port_names`."""

    data_dir: Path
    ports: Mapping[str, int]

    @property
    def secrets(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def certificates(self) -> Path:
        return self.data_dir / "tls"

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"


def port_names() -> list[str]:
    """The ports that are ours to choose: all but the public one."""
    return [
        *(unit for unit in UNITS if unit != "gateway"),
        *(ops_name(unit) for unit in UNITS),
    ]


def ops_name(unit: str) -> str:
    """The name of a unit's operations port."""
    return f"{unit}-ops"


def program(unit: str, settings: Settings, places: Places) -> Program:
    """A unit's process."""
    public = unit == "gateway"
    ports = {
        "port": settings.port if public else places.ports[unit],
        "ops_port": places.ports[ops_name(unit)],
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
            "DRAIN_S": str(DRAIN_S),
            "LOG_LEVEL": settings.log_level,
            "BATCH_MAX": str(settings.batch_max),
            "CLOCK_OFFSET_S": str(settings.clock_offset_s),
            "TLS_DIR": str(places.certificates / unit),
            **_stores(unit, places),
            **_targets(unit, places),
            **_told(unit, settings, places),
        },
        log=places.logs / f"{unit}.log",
        grace_s=_GRACE_S,
        ports=ports,
        ready_urls=[*ready_urls, f"{settings.url}/readyz"] if public else ready_urls,
    )


def simulated_players(settings: Settings, places: Places) -> Program:
    """The simulated players' process."""
    return Program(
        name="players",
        command=(
            "-m",
            "local.players",
            settings.url,
            str(settings.players),
            str(places.data_dir / "players.json"),
        ),
        environment={"PYTHONPATH": str(ROOT / "clients" / "python")},
        log=places.logs / "players.log",
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


def _stores(unit: str, places: Places) -> dict[str, str]:
    given = {}
    if unit in databases.UNITS:
        given["DATABASE_URL_FILE"] = str(places.secrets / f"{unit}_database_url")
    if unit in _REDIS_USERS:
        given["REDIS_URL_FILE"] = str(places.secrets / "redis_url")
    return given


def _targets(unit: str, places: Places) -> dict[str, str]:
    """The addresses of the units that this one calls, by the table of arrows."""
    called = [
        name for name, methods in CALLERS.items() if any(unit in who for who in methods.values())
    ]
    return {f"{name.upper()}_TARGET": f"127.0.0.1:{places.ports[name]}" for name in called}


def _told(unit: str, settings: Settings, places: Places) -> dict[str, str]:
    """What this unit alone is given."""
    given = {f"{name.upper()}_FILE": str(places.secrets / name) for name in _SECRETS.get(unit, ())}
    if unit in ("auth", "gateway"):
        given |= {"ISSUER": settings.url, "AUDIENCE": "scoreboard"}
    if unit in ("actions", "fraud", "gateway"):
        given |= {"SCOREBOARD_LIMITS": settings.limits}
    if unit == "auth":
        given |= {"SCOREBOARD_BCRYPT_COST": str(settings.bcrypt_cost)}
    if unit == "gateway":
        # Simulated players and test clients, all on this machine, send addresses of their own.
        given |= {"SCOREBOARD_TRUSTED_PROXIES": "127.0.0.0/8,::1/128", "WS_QUERY_TOKEN": "on"}
        names = dict.fromkeys((settings.url, *(reached(h, settings.port) for h in _NAMES)))
        given |= {"ALLOWED_ORIGINS": ",".join(names)}
    return given
