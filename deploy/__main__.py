"""Prepares an installation: `python -m deploy migrate`. Start reading here."""

import argparse
import asyncio
import os
import sys

from deploy import databases, redis_cluster


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="bring the schemas up to date")
    nodes = commands.add_parser("redis-cluster", help="form a Redis Cluster, or stay with a node")
    nodes.add_argument("words", nargs=1, choices=["form", "stay"])
    arguments = parser.parse_args()
    if arguments.command == "redis-cluster":
        redis_cluster.command(arguments.words, os.environ)
        return
    if not (url := os.environ.get("DATABASE_URL")):
        sys.exit("migrate: set DATABASE_URL (a role that may create schemas)")
    for unit, version in asyncio.run(databases.migrate(url)).items():
        sys.stdout.write(f"{unit} is at {version}\n")


if __name__ == "__main__":
    main()
