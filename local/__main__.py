"""`make run`: the whole suite on this machine, until Ctrl-C. Start reading here."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

import structlog

from chassis.settings import SettingsError, load
from local import ports, secrets
from local.servers.embedded import Unavailable
from local.settings import Settings
from local.suite import admin, certificates, stores, units
from local.suite.admin import Admin
from local.suite.claim import claimed, expect_free
from local.suite.probe import status
from local.suite.supervisor import Refused, Stopped, Supervisor

PAGES = {"board": "/", "docs": "/docs", "console": "/console"}

say = partial(print, flush=True)


def main(settings: Settings) -> None:
    folder = settings.data_dir.absolute()
    record = folder / "processes.json"
    with claimed(folder), Supervisor(record, url=settings.url, say=say) as supervisor:
        supervisor.heed(SIGINT, SIGTERM, SIGHUP)
        expect_free(settings.host, settings.port)
        names = [*stores.PORT_NAMES, *units.port_names()]
        places = units.Places(data_dir=folder, ports=ports.keep(folder / "ports.json", names))
        secrets.make(places.secrets, passwords=stores.PASSWORDS)
        certificates.make(places.certificates, units.UNITS)
        database_url = stores.start(supervisor, settings, places, say=say)
        say("bringing the schemas up to date…")
        asyncio.run(stores.migrate(database_url, places))
        administrator = admin.ensure(
            folder / "admin.json",
            given=units.account_environment(settings, places),
            again=bool(settings.database_url),
        )
        say(f"starting {', '.join(units.UNITS)}…")
        supervisor.start(*(units.program(unit, settings, places) for unit in units.UNITS))
        supervisor.until_ready()
        greet(settings, administrator, folder / "admin.json")
        if settings.players:
            supervisor.start(units.simulated_players(settings, places))
        supervisor.run()


def greet(settings: Settings, administrator: Admin, kept_in: Path) -> None:
    """Says where everything is."""
    say(f"ready {settings.url}")
    for name, path in PAGES.items():
        if status(settings.url + path) == 200:
            say(f"  {name:<9}{settings.url}{path}")
    if administrator.is_new:
        say(f"  {'admin':<9}{administrator.username}  {administrator.password}  (in {kept_in})")


@contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Ends the process with one line for what the machine or its owner has to mend."""
    try:
        yield
    except Stopped:
        return
    except (Refused, Unavailable) as refusal:
        sys.exit(str(refusal))
    except OSError as refusal:
        # What fails while it is written has lost its name.
        sys.exit(f"{refusal.filename or folder}: {refusal.strerror or refusal}")


if __name__ == "__main__":
    # The chassis logs for machines; what a person wants to know is said here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    try:
        given = load(Settings)
    except SettingsError as problems:
        sys.exit(f"the settings do not fit\n{problems}")
    with one_line(given.data_dir):
        main(given)
