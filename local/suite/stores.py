"""Postgres and Redis of the suite: those that are given, or those started here."""

from functools import partial
from pathlib import Path

import asyncpg

from chassis.postgres import UNAVAILABLE, SchemaBehind
from deploy import databases, secrets
from local.servers import embedded as servers
from local.settings import Settings
from local.suite.processes import Server
from local.suite.supervisor import Refused, Supervisor
from local.suite.units import Places

PORT_NAMES = ("postgres", "redis")
PASSWORDS = (
    "postgres_password",
    "redis_password",
    *(f"{unit}_database_password" for unit in databases.UNITS),
)


def start(supervisor: Supervisor, settings: Settings, places: Places) -> str:
    """Starts what is not given; returns Postgres' URL. Raises Stopped, Unavailable, OSError."""
    urls = {"postgres": settings.database_url, "redis": settings.redis_url}
    embedded = {"postgres": servers.postgres, "redis": servers.redis}
    for name, open_server in embedded.items():
        if urls[name]:
            supervisor.add(name, urls[name])
            continue
        supervisor.say(f"starting {name}…")
        port, password = places.ports[name], _read(places.secrets / f"{name}_password")
        run = partial(open_server, places.data_dir, port=port, password=password, durable=True)
        server = Server(name, run)
        supervisor.start(server)
        urls[name] = server.url
    secrets.write(places.secrets / "redis_url", urls["redis"])
    return urls["postgres"]


async def migrate(database_url: str, places: Places) -> None:
    """Brings all schemas up to date, and keeps each service's own URL as a secret of its own.

    Raises Refused, OSError.
    """
    names = {unit: f"{unit}_database_password" for unit in databases.UNITS}
    passwords = {unit: _read(places.secrets / name) for unit, name in names.items()}
    try:
        urls = await databases.prepare(database_url, passwords)
    except (*UNAVAILABLE, asyncpg.PostgresError, SchemaBehind) as refusal:
        raise Refused(f"postgres: {refusal}") from refusal
    for unit, url in urls.items():
        secrets.write(places.secrets / f"{unit}_database_url", url)


def _read(path: Path) -> str:
    return path.read_text().strip()
