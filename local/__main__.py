"""`make run`: the whole suite on this machine, until Ctrl-C. Start reading here."""

import asyncio
import sys
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

import structlog

from chassis.settings import SettingsError, load
from local import ports, secrets
from local.servers.binaries import Unavailable
from local.settings import Settings
from local.suite import admin, certificates, stores, units
from local.suite.processes import status
from local.suite.supervisor import Refused, Stopped, Supervisor, claimed

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
        certificates.make(places.certificates, units.UNITS)
        database_url = stores.start(supervisor, settings, places)
        say("bringing the schemas up to date…")
        asyncio.run(stores.migrate(database_url, places))
        administrator = admin.ensure(
            folder / "admin.json",
            given=units.account_environment(settings, places),
            again=bool(settings.database_url),
        )
        say(f"starting {', '.join(units.UNITS)}…")
        supervisor.start(*(units.program(unit, settings, places) for unit in units.UNITS))
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


if __name__ == "__main__":
    # The chassis logs for machines; what a person wants to know is printed here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    try:
        given = load(Settings)
    except SettingsError as problems:
        sys.exit(f"the settings do not fit\n{problems}")
    # What the machine or its user has to correct ends the process with one line.
    try:
        main(given)
    except Stopped:
        pass
    except (Refused, Unavailable) as refusal:
        sys.exit(str(refusal))
    except OSError as refusal:
        # What fails while it is written has lost its name.
        sys.exit(f"{refusal.filename or given.data_dir}: {refusal.strerror or refusal}")
