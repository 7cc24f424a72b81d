"""The six processes: what each is started with and given, all of it on this machine.

What a unit's `Settings` read is given to it in three ways: the suite decides it (addresses,
certificates, secrets, stores), the user sets it by the variable of that name, or it is the
suite's default, else the unit's own.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chassis.settings import ProcessSettings, SettingsError, load, variables
from deploy.units import SETTINGS, UNITS, keys, module, stores, targets
from local.settings import Settings, reached
from local.suite import processes
from local.suite.processes import ROOT, Program

# All ports but the public one.
PORT_NAMES = (*UNITS[:-1], *(f"{unit}-ops" for unit in UNITS))

# A pool's connections and the last lines of a log need a moment after the requests.
_GRACE_S = 10.0
_PLAYERS_GRACE_S = 5.0

# What a store's URL looks like, while there is none yet.
_NO_STORES = {"DATABASE_URL": "postgresql://127.0.0.1/none", "REDIS_URL": "redis://127.0.0.1"}


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
    """A unit's process. Raises SettingsError where what the user set does not fit."""
    given = environment(unit, settings, places)
    # Its end takes as long as its settings say, wherever they come from.
    process = load(ProcessSettings, given)
    ready_url = f"{reached('127.0.0.1', process.ops_port)}/readyz"
    return Program(
        name=unit,
        command=("-m", module(unit)),
        environment=given,
        log=places.data_dir / "logs" / f"{unit}.log",
        grace_s=process.drain_pause_s + process.drain_s + _GRACE_S,
        ports={"port": process.port, "ops_port": process.ops_port},
        ready_urls=[ready_url, f"{settings.url}/readyz"] if unit == "gateway" else [ready_url],
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


def environment(unit: str, settings: Settings, places: Places) -> dict[str, str]:
    """What a unit is given of all that its settings read; each value as X or as X_FILE."""
    given = decided(unit, settings, places)
    fixed = {name.removesuffix("_FILE") for name in given}
    preset = defaults(settings)
    for variable in variables(SETTINGS[unit]):
        name = variable.name
        if name in fixed:
            continue
        if name in os.environ:
            given[name] = os.environ[name]
        if (form := f"{name}_FILE") in os.environ:
            # The unit's working directory is another one than the user's.
            given[form] = str(Path(os.environ[form]).absolute())
        if name in preset and not given.keys() & {name, form}:
            given[name] = preset[name]
    return given


def check(settings: Settings, places: Places) -> None:
    """Reads every unit's settings as the unit will, before there are stores.

    Raises SettingsError: a line for each problem, with the units that have it.
    """
    problems: dict[str, list[str]] = {}
    for unit, cls in SETTINGS.items():
        given = environment(unit, settings, places) | _NO_STORES
        for name in _NO_STORES:
            given.pop(f"{name}_FILE", None)
        try:
            load(cls, given)
        except SettingsError as refusal:
            for line in str(refusal).splitlines():
                problems.setdefault(line, []).append(unit)
    if problems:
        raise SettingsError(
            "\n".join(f"{', '.join(units)}: {line}" for line, units in problems.items())
        )


def command(unit: str, arguments: Sequence[str], settings: Settings, places: Places) -> None:
    """Becomes an operator's command of a unit, which gets the unit's environment."""
    given = processes.environment(environment(unit, settings, places))
    os.execve(sys.executable, [sys.executable, "-m", module(unit), *arguments], given)  # noqa: S606


def decided(unit: str, settings: Settings, places: Places) -> dict[str, str]:
    """What the suite decides and no one else: how its parts find and trust each other."""
    public = unit == "gateway"
    given = {
        "HOST": settings.host if public else "127.0.0.1",
        "PORT": str(settings.port if public else places.ports[unit]),
        "OPS_HOST": "127.0.0.1",
        "OPS_PORT": str(places.ports[f"{unit}-ops"]),
        "TLS_DIR": str(places.certificates / unit),
        **{f"{name.upper()}_TARGET": f"127.0.0.1:{places.ports[name]}" for name in targets(unit)},
    }
    for name in keys(unit):
        given[f"{name.upper()}_FILE"] = str(places.secrets / name)
    for name in stores(unit):
        given[f"{name.upper()}_FILE"] = str(places.secrets / f"{unit}_{name}")
    return given


def defaults(settings: Settings) -> dict[str, str]:
    """What the suite sets where its user does not, by name: what fits one machine."""
    # By these a browser opens pages of this machine.
    hosts = (reached(host, settings.port) for host in ("127.0.0.1", "localhost"))
    return {
        "DRAIN_S": "4",
        "ISSUER": settings.url,
        "AUDIENCE": "scoreboard",
        # Simulated players and test clients, all on this machine, send addresses of their own.
        "SCOREBOARD_TRUSTED_PROXIES": "127.0.0.0/8,::1/128",
        "WS_QUERY_TOKEN": "on",
        "ALLOWED_ORIGINS": ",".join(dict.fromkeys((settings.url, *hosts))),
    }
