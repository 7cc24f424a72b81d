"""Prepares an installation: `python -m deploy migrate`. Start reading here."""

import argparse
import asyncio
import os
import sys

from deploy import databases


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    parser.add_argument("command", choices=["migrate"], help="bring the schemas up to date")
    parser.parse_args()
    if not (url := os.environ.get("DATABASE_URL")):
        sys.exit("migrate: set DATABASE_URL (a role that may create schemas)")
    for unit, version in asyncio.run(databases.migrate(url)).items():
        sys.stdout.write(f"{unit} is at {version}\n")


if __name__ == "__main__":
    main()
