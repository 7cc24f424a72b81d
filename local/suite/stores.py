"""Postgres and Redis of the suite: those that are given, or those started here."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import asyncpg

from chassis.postgres import UNAVAILABLE, SchemaBehind
from deploy import databases, redis_users, secrets
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
    *(f"{unit}_redis_password" for unit in redis_users.UNITS),
)


def start(supervisor: Supervisor, settings: Settings, places: Places) -> str:
    """Starts what is not given; returns Postgres' URL. Raises Stopped, Unavailable, OSError.

    Each unit's URL of Redis is kept as a secret of its own: with its own user, or as given.
    """
    passwords = {
        unit: _read(places.secrets / f"{unit}_redis_password") for unit in redis_users.UNITS
    }
    with_users = partial(servers.redis, config=redis_users.users(passwords))
    postgres_url = settings.database_url or _start("postgres", servers.postgres, supervisor, places)
    redis_url = settings.redis_url or _start("redis", with_users, supervisor, places)
    for name, given in {"postgres": settings.database_url, "redis": settings.redis_url}.items():
        if given:
            supervisor.add(name, given)
    for unit, password in passwords.items():
        own = redis_url if settings.redis_url else databases.as_user(redis_url, unit, password)
        secrets.write(places.secrets / f"{unit}_redis_url", own)
    return postgres_url


def _start(
    name: str,
    open_server: Callable[..., AbstractContextManager[servers.Server]],
    supervisor: Supervisor,
    places: Places,
) -> str:
    """Starts an own server; returns its URL."""
    supervisor.say(f"starting {name}…")
    port, password = places.ports[name], _read(places.secrets / f"{name}_password")
    run = partial(open_server, places.data_dir, port=port, password=password, durable=True)
    server = Server(name, run)
    supervisor.start(server)
    return server.url


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
