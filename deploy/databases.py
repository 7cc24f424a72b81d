"""Roles and schemas of the services in one Postgres.

Each service connects with a role of its own name, which owns nothing and is granted
what the service's migrations grant it.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import asyncpg

from chassis import postgres
from deploy import units

# Those that keep anything in Postgres.
UNITS = tuple(unit for unit in units.UNITS if "database_url" in units.stores(unit))

_SERVICES = Path(__file__).parents[1] / "services"


async def prepare(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Makes the roles and brings their schemas up to date; returns each service's URL.

    `admin_url` is of a role that may create roles and schemas. `passwords` name the
    services and their roles' passwords.
    """
    await _make_roles(admin_url, passwords)
    for unit in passwords:
        await _migrate(admin_url, unit)
    return {unit: as_user(admin_url, unit, password) for unit, password in passwords.items()}


async def migrate(url: str, passwords: Mapping[str, str]) -> dict[str, int]:
    """Makes the roles of `passwords`, brings every schema up to date; returns the versions.

    `url` is of a role that may create schemas, and roles if there are any to make.
    """
    if passwords:
        await _make_roles(url, passwords)
    return {unit: await _migrate(url, unit) for unit in UNITS}


def passwords(folder: Path) -> dict[str, str]:
    """The roles' passwords, of the URL in each service's file of `folder`. Raises OSError."""
    urls = {unit: urlsplit((folder / unit).read_text().strip()) for unit in UNITS}
    return {unit: unquote(url.password or "") for unit, url in urls.items()}


async def _make_roles(url: str, passwords: Mapping[str, str]) -> None:
    connection = await postgres.connect(url)
    try:
        for unit, password in passwords.items():
            await _set_role(connection, unit, password)
    finally:
        await connection.close()


async def _set_role(connection: asyncpg.Connection, name: str, password: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
    # Neither a name nor a password can be a parameter of this statement; the server quotes both.
    statement = await connection.fetchval(
        "SELECT format($1 || ' ROLE %I LOGIN PASSWORD %L', $2::text, $3::text)",
        "ALTER" if exists else "CREATE",
        name,
        password,
    )
    await connection.execute(statement)


async def _migrate(url: str, unit: str) -> int:
    return await postgres.migrate(url, schema=unit, folder=_SERVICES / unit / "migrations")


def as_user(url: str, user: str, password: str) -> str:
    """The same server for another of its users."""
    parts = urlsplit(url)
    where = f"{quote(user)}:{quote(password)}@{parts.netloc.rpartition('@')[2]}"
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query) if k not in ("user", "password")])
    return urlunsplit(parts._replace(netloc=where, query=query))
