"""Brings the schemas of the Postgres that DATABASE_URL names up to date, for `make migrate`."""

import asyncio
import os
import sys

from chassis import postgres
from local.servers.databases import SERVICES, UNITS


async def migrate(url: str) -> None:
    """Migrates every service's schema. `url` is of a role that may create schemas."""
    for unit in UNITS:
        newest = await postgres.migrate(url, schema=unit, folder=SERVICES / unit / "migrations")
        print(f"{unit} is at {newest}")


if __name__ == "__main__":
    if not (database_url := os.environ.get("DATABASE_URL")):
        sys.exit("migrate: set DATABASE_URL (a role that may create schemas)")
    asyncio.run(migrate(database_url))
