"""Prepares an installation: `python -m deploy migrate`. Start reading here."""

import argparse
import asyncio
import os
import sys

from deploy import certificates, commands, databases
from deploy.units import UNITS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    known = parser.add_subparsers(dest="command", required=True, metavar="command")
    known.add_parser("migrate", help="bring the schemas up to date")
    known.add_parser(
        "certificates", add_help=False, help="renew certificates and replace the CA; try --help"
    )
    given, rest = parser.parse_known_args()
    if given.command == "certificates":
        operate_certificates(rest)
        return
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if not (url := os.environ.get("DATABASE_URL")):
        sys.exit("migrate: set DATABASE_URL (a role that may create schemas)")
    for unit, version in asyncio.run(databases.migrate(url)).items():
        sys.stdout.write(f"{unit} is at {version}\n")


def operate_certificates(arguments: list[str]) -> None:
    """Runs a command on certificates; one that is refused ends the process with code 1."""
    try:
        lines = commands.run(arguments, UNITS)
    except (certificates.Refused, OSError) as refusal:
        sys.exit(f"certificates: {refusal}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
