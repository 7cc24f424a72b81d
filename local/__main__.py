"""`make run`: the whole suite on this machine, until Ctrl-C. Start reading here.

`python -m local scores audit` runs an operator's command of a unit on the suite instead.
"""

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

import structlog

from chassis import usage
from chassis.settings import ProcessSettings, SettingsError, load, variables
from deploy import certificates, secrets
from deploy.units import SETTINGS, UNITS
from local import ports
from local.servers.binaries import Unavailable
from local.settings import Settings
from local.suite import admin, stores, units
from local.suite.processes import status
from local.suite.supervisor import Refused, Stopped, Supervisor, claimed

# The units that have commands.
COMMANDED = ("auth", "scores")
PAGES = {"board": "/", "docs": "/docs", "console": "/console"}

say = partial(print, flush=True)


def main(settings: Settings) -> None:
    folder = settings.data_dir.absolute()
    record = folder / "processes.json"
    with claimed(folder), Supervisor(record, url=settings.url, say=say) as supervisor:
        supervisor.stop_by(SIGINT, SIGTERM, SIGHUP)
        if problem := ports.problem(settings.port, settings.host):
            port = f"port {settings.port} of {settings.host}"
            raise Refused(f"{port}: {problem}; choose another by SCOREBOARD_PORT")
        names = [*stores.PORT_NAMES, *units.PORT_NAMES]
        places = units.Places(data_dir=folder, ports=ports.keep(folder / "ports.json", names))
        secrets.make(places.secrets, passwords=stores.PASSWORDS)
        certificates.make(places.certificates, UNITS)
        units.check(settings, places)
        database_url = stores.start(supervisor, settings, places)
        say("bringing the schemas up to date…")
        asyncio.run(stores.migrate(database_url, places))
        administrator = admin.ensure(
            folder / "admin.json",
            given=units.environment("auth", settings, places),
            again=bool(settings.database_url),
        )
        say(f"starting {', '.join(UNITS)}…")
        supervisor.start(*(units.program(unit, settings, places) for unit in UNITS))
        supervisor.wait_until_ready()
        greet(settings, administrator, kept_in=folder / "admin.json")
        if settings.players:
            supervisor.start(units.simulated_players(settings, places))
        supervisor.run()


def greet(settings: Settings, administrator: admin.Admin, *, kept_in: Path) -> None:
    """Prints where everything is."""
    say(f"ready {settings.url}")
    for name, path in PAGES.items():
        if status(settings.url + path) == 200:
            say(f"  {name:<9}{settings.url}{path}")
    if administrator.is_new:
        say(f"  {'admin':<9}{administrator.username}  {administrator.password}  (in {kept_in})")


def operate(settings: Settings, unit: str, arguments: list[str]) -> None:
    """Becomes a command of a unit, on the data of the suite. Raises Refused, OSError."""
    folder = settings.data_dir.absolute()
    try:
        places = units.Places(data_dir=folder, ports=ports.kept(folder / "ports.json"))
        units.command(unit, arguments, settings, places)
    except (FileNotFoundError, KeyError):
        raise Refused(f"{folder}: no suite has run here; start one by `make run`") from None


def arguments() -> argparse.Namespace:
    """The command line; `--help` prints the settings of this program and of all units."""
    parser = usage.parser(Settings)
    parser.description = (
        "Runs the whole suite on this machine until Ctrl-C; or, given a unit and arguments, an"
        " operator's command of that unit: `auth client list`, `scores audit`."
    )
    parser.epilog = f"{parser.epilog}\n\n{settings_of_units()}"
    parser.add_argument("unit", nargs="?", choices=COMMANDED, help="whose command to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the command; try --help")
    given = parser.parse_args()
    if given.unit and not given.arguments:
        parser.error(f"which command of {given.unit}? `{given.unit} --help` shows them")
    return given


def settings_of_units() -> str:
    """The help for what `make run` passes on to units."""
    settings = Settings()
    nowhere = units.Places(data_dir=Path(), ports=dict.fromkeys(units.PORT_NAMES, 0))
    fixed = {
        name.removesuffix("_FILE")
        for unit in UNITS
        for name in units.decided(unit, settings, nowhere)
    }
    common = {variable.name: variable.default for variable in variables(ProcessSettings)}
    classes: dict[str, type] = {"every unit": ProcessSettings, **SETTINGS}
    parts = []
    for title, cls in classes.items():
        shown = {
            variable.name
            for variable in variables(cls)
            if cls is not ProcessSettings and common.get(variable.name, ...) == variable.default
        }
        text = usage.settings(cls, but=fixed | shown, defaults=units.defaults(settings))
        if text:
            parts.append(f"Settings of {title}, passed on to it:\n\n{text}")
    decided = ", ".join(sorted(fixed))
    return "\n\n".join([*parts, f"Decided by the suite, so not to be set for units:\n  {decided}"])


if __name__ == "__main__":
    # The chassis logs for machines; what a person wants to know is printed here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    wanted = arguments()
    try:
        given = load(Settings)
    except SettingsError as problems:
        sys.exit(f"the settings do not fit\n{problems}")
    # What the machine or its user has to correct ends the process with one line.
    try:
        if wanted.unit:
            operate(given, wanted.unit, wanted.arguments)
        main(given)
    except Stopped:
        pass
    except SettingsError as problems:
        sys.exit(f"the settings do not fit\n{problems}")
    except (Refused, Unavailable) as refusal:
        sys.exit(str(refusal))
    except OSError as refusal:
        # What fails while it is written has lost its name.
        sys.exit(f"{refusal.filename or given.data_dir}: {refusal.strerror or refusal}")
