"""Roles and schemas of the services in one Postgres, for development and tests.

Each service connects with a role of its own name, which owns nothing and is granted
what the service's migrations grant it.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from chassis import postgres

SERVICES = Path(__file__).parents[2] / "services"
UNITS = ("auth", "actions", "scores", "fraud")  # those that keep anything in Postgres


async def prepare(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Makes the roles and brings every schema up to date; answers each service's URL.

    `admin_url` is of a role that may create roles and schemas. `passwords` name the
    services and their roles' passwords.
    """
    connection = await asyncpg.connect(admin_url, timeout=10)
    try:
        for unit, password in passwords.items():
            await _role(connection, unit, password)
    finally:
        await connection.close()
    for unit in passwords:
        await postgres.migrate(admin_url, schema=unit, folder=SERVICES / unit / "migrations")
    return {unit: as_user(admin_url, unit, password) for unit, password in passwords.items()}


async def create(admin_url: str, name: str) -> str:
    """Makes an empty database; returns its URL, of the same role."""
    connection = await asyncpg.connect(admin_url, timeout=10)
    try:
        quoted = await connection.fetchval("SELECT quote_ident($1)", name)
        await connection.execute(f"CREATE DATABASE {quoted}")
    finally:
        await connection.close()
    return urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))


def as_user(url: str, user: str, password: str) -> str:
    """The same database for another role."""
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")[2]
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query) if k not in ("user", "password")])
    return urlunsplit(
        parts._replace(netloc=f"{quote(user)}:{quote(password)}@{where}", query=query)
    )


async def _role(connection: asyncpg.Connection, name: str, password: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
    verb = "ALTER" if exists else "CREATE"
    # Neither a name nor a password can be a parameter of this statement; the server quotes both.
    statement = await connection.fetchval(
        "SELECT format($1 || ' ROLE %I LOGIN PASSWORD %L', $2::text, $3::text)",
        verb,
        name,
        password,
    )
    await connection.execute(statement)
