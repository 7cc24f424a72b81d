"""Postgres and Redis of the suite: those that are given, or those started here."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import asyncpg

from chassis.postgres import UNAVAILABLE, SchemaBehind
from local import secrets
from local.servers import databases
from local.servers import embedded as servers
from local.settings import Settings
from local.suite.processes import Server
from local.suite.supervisor import Refused, Supervisor
from local.suite.units import Places

Opened = AbstractContextManager[servers.Server]

PORT_NAMES = ("postgres", "redis")
PASSWORDS = (
    "postgres_password",
    "redis_password",
    *(f"{unit}_database_password" for unit in databases.UNITS),
)


def start(
    supervisor: Supervisor, settings: Settings, places: Places, *, say: Callable[[str], None]
) -> str:
    """Starts what is not given; answers Postgres' URL. Raises Stopped, Unavailable, OSError."""
    database_url, redis_url = settings.database_url, settings.redis_url
    if database_url:
        supervisor.know("postgres", database_url)
    else:
        say("starting postgres…")
        database_url = _start(supervisor, "postgres", places, servers.postgres)
    if redis_url:
        supervisor.know("redis", redis_url)
    else:
        say("starting redis…")
        redis_url = _start(supervisor, "redis", places, servers.redis)
    secrets.write(places.secrets / "redis_url", redis_url)
    return database_url


async def migrate(database_url: str, places: Places) -> None:
    """Brings all schemas up to date, and keeps each service's own URL as a secret of its own.

    Raises Refused, OSError.
    """
    passwords = {
        unit: _read(places.secrets / f"{unit}_database_password") for unit in databases.UNITS
    }
    try:
        urls = await databases.prepare(database_url, passwords)
    except (*UNAVAILABLE, asyncpg.PostgresError, SchemaBehind) as refusal:
        raise Refused(f"postgres: {refusal}") from refusal
    for unit, url in urls.items():
        secrets.write(places.secrets / f"{unit}_database_url", url)


def _start(
    supervisor: Supervisor, name: str, places: Places, open_server: Callable[..., Opened]
) -> str:
    options = {
        "port": places.ports[name],
        "password": _read(places.secrets / f"{name}_password"),
        "durable": True,
    }
    server = Server(name, partial(open_server, places.data_dir, **options))
    supervisor.start(server)
    return server.url


def _read(path: Path) -> str:
    return path.read_text().strip()
