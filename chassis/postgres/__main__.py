"""`python -m chassis.postgres <folder>`: waits until the migrations of a folder are applied.

For what starts before a service that needs them, which would end: an init container. The folder
is `…/<schema>/migrations`.
"""

import argparse
import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chassis.postgres import UNAVAILABLE, SchemaBehind, expect_schema, open_database
from chassis.settings import SettingsError, load
from chassis.telemetry import log, logs

PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the schema is."""

    database_url: str  # Postgres, as a role that may read the schema


async def wait(url: str, folder: Path) -> None:
    """Returns when the schema has every migration of `folder`."""
    schema = folder.parent.name
    while True:
        try:
            async with open_database(url, connections_max=1) as database:
                await expect_schema(database, schema=schema, folder=folder)
        except (*UNAVAILABLE, SchemaBehind, asyncpg.PostgresError) as reason:
            # The role and its rights are made with the schema, so their lack is waited out too.
            log.info("schema_awaited", schema=schema, reason=str(reason))
            await asyncio.sleep(PAUSE_S)
        else:
            log.info("schema_found", schema=schema)
            return


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chassis.postgres", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the migrations: …/<schema>/migrations")
    folder = parser.parse_args().folder.absolute()
    try:
        settings = load(Settings)
    except SettingsError as problems:
        sys.exit(f"the settings do not fit\n{problems}")
    # The first process of a container ignores SIGTERM unless it handles it. A wait that is
    # interrupted has not found the schema.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    logs.configure("schema", level="info")
    asyncio.run(wait(settings.database_url, folder))


if __name__ == "__main__":
    main()
