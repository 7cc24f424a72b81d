"""Prepares an installation. Start reading here.

`migrate` makes the services' roles and brings the schemas up to date; `files` makes all secrets
as a folder; `secrets` keeps them as Secrets of the cluster that it runs in; `certificates` renews
certificates of a folder and replaces their CA; `redis-cluster` forms a Redis Cluster and stays
beside its nodes.
"""

import argparse
import asyncio
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import asyncpg
import structlog

from chassis.postgres import UNAVAILABLE, SchemaBehind
from chassis.settings import Between, OneOf, SettingsError, load
from deploy import (
    certificate_commands,
    certificates,
    cluster_secrets,
    databases,
    files,
    redis_cluster,
)
from deploy.redis_cluster import Nodes
from deploy.units import UNITS

# Trying again cannot help: the pod failure policy of the Job goes by it.
HOPELESS = 42


@dataclass(frozen=True, kw_only=True)
class MigrateSettings:
    """The settings of `migrate`."""

    database_url: str  # Postgres, as a role that may make schemas, and roles where it has to
    roles_dir: str = ""  # a file for each service, with its own URL, whose role is made


@dataclass(frozen=True, kw_only=True)
class SecretsSettings:
    """The settings of `secrets`."""

    namespace: str  # where the Secrets are
    postgres_address: str = "postgres:5432"  # host:port, for new URLs
    redis_address: str = "redis:6379"  # the same
    # a step of replacing the CA, to be taken as well: see `certificates --help`; empty: none
    rotate_ca: Annotated[str, OneOf("", *certificates.STEPS)] = ""
    # a step is refused for so long after the last change, until units have read that
    read_within_s: Annotated[float, Between(0, 86400)] = 300.0


@dataclass(frozen=True, kw_only=True)
class FormSettings:
    """The settings of `redis-cluster form`."""

    redis_url: str  # redis+cluster://…, which names every node, of a user who may do everything

    @property
    def nodes(self) -> Nodes:
        """What the URL names. Raises SettingsError."""
        try:
            return Nodes.of(self.redis_url)
        except ValueError as problem:
            raise SettingsError(f"REDIS_URL: {problem}") from None


@dataclass(frozen=True, kw_only=True)
class StaySettings(FormSettings):
    """The settings of `redis-cluster stay`."""

    redis_node: str  # host:port of the node beside it
    redis_ready_file: Path  # is there while the node has what its primary has

    @property
    def node(self) -> tuple[str, int]:
        """Host and port. Raises SettingsError."""
        host, _, port = self.redis_node.rpartition(":")
        if not host or not port.isdigit():
            raise SettingsError("REDIS_NODE: must be host:port")
        return host, int(port)


def migrate(_: argparse.Namespace) -> None:
    settings = load(MigrateSettings)
    passwords = databases.passwords(Path(settings.roles_dir)) if settings.roles_dir else {}
    try:
        versions = asyncio.run(databases.migrate(settings.database_url, passwords))
    except UNAVAILABLE as reason:
        sys.exit(f"migrate: Postgres is unavailable: {reason}")
    except (asyncpg.PostgresError, SchemaBehind) as refusal:
        sys.stderr.write(f"migrate: {refusal}\n")
        sys.exit(HOPELESS)
    for unit, version in versions.items():
        sys.stdout.write(f"{unit} is at {version}\n")


def make_files(given: argparse.Namespace) -> None:
    files.make(given.directory, postgres=given.postgres, redis=given.redis)
    sys.stdout.write(f"{given.directory} has all secrets\n")


def make_secrets(_: argparse.Namespace) -> None:
    settings = load(SecretsSettings)

    async def make() -> list[str]:
        async with cluster_secrets.Api.of_this_pod(settings.namespace) as api:
            return await cluster_secrets.make(
                api,
                postgres=settings.postgres_address,
                redis=settings.redis_address,
                rotate_ca=settings.rotate_ca,
                read_within=timedelta(seconds=settings.read_within_s),
            )

    try:
        changed = asyncio.run(make())
    except (cluster_secrets.Refused, certificates.Refused) as refusal:
        sys.exit(f"secrets: {refusal}")
    sys.stdout.write(f"made or renewed: {', '.join(changed) or 'nothing'}\n")


def operate_certificates(given: argparse.Namespace) -> None:
    try:
        lines = certificate_commands.run(given, UNITS)
    except certificates.Refused as refusal:
        sys.exit(f"certificates: {refusal}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def form(_: argparse.Namespace) -> None:
    try:
        redis_cluster.form(load(FormSettings).nodes)
    except TimeoutError as reason:
        sys.exit(f"redis-cluster: {reason}")


def stay(_: argparse.Namespace) -> None:
    settings = load(StaySettings)
    redis_cluster.stay(
        settings.nodes,
        settings.node,
        ends=redis_cluster.until_stopped(),
        ready=settings.redis_ready_file,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    migrating = commands.add_parser(
        "migrate",
        help="make roles, bring schemas up to date",
        description="Reads DATABASE_URL, of a role that may make schemas, and ROLES_DIR, a folder"
        " with a file for each service that holds its URL: its role is made with that password."
        f" Code {HOPELESS}: trying again cannot help.",
    )
    migrating.set_defaults(run=migrate)
    making = commands.add_parser("files", help="make all secrets as a folder")
    making.add_argument("--directory", type=Path, required=True, help="the folder")
    making.add_argument("--postgres", default="postgres:5432", help="host:port, for new URLs")
    making.add_argument("--redis", default="redis:6379", help="host:port, for new URLs")
    making.set_defaults(run=make_files)
    keeping = commands.add_parser(
        "secrets",
        help="keep all secrets as Secrets of the cluster that it runs in",
        description="Reads NAMESPACE, and POSTGRES_ADDRESS and REDIS_ADDRESS (host:port) for new"
        " URLs. Makes what is missing, renews certificates near their end. ROTATE_CA names a step"
        f" of replacing the CA ({', '.join(certificates.STEPS)}), READ_WITHIN_S (300) the seconds"
        " after a change in which the next step is refused.",
    )
    keeping.set_defaults(run=make_secrets)
    operating = commands.add_parser("certificates", help="renew certificates, replace the CA")
    certificate_commands.add_to(operating)
    operating.set_defaults(run=operate_certificates)
    nodes = commands.add_parser("redis-cluster", help="form a Redis Cluster, stay with its nodes")
    acts = nodes.add_subparsers(required=True, metavar="act")
    forming = acts.add_parser(
        "form",
        help="make one cluster of the nodes, or what is missing of it",
        description="Reads REDIS_URL: redis+cluster://user:password@host:port,… with every node.",
    )
    forming.set_defaults(run=form)
    staying = acts.add_parser(
        "stay",
        help="introduce a node to its peers until SIGTERM, then hand over to a replica",
        description="Reads REDIS_URL, REDIS_NODE (host:port of the node) and REDIS_READY_FILE,"
        " which is there while the node has what its primary has.",
    )
    staying.set_defaults(run=stay)
    given = parser.parse_args()
    try:
        given.run(given)
    except SettingsError as problems:
        sys.exit(f"the settings do not fit\n{problems}")
    except OSError as refusal:
        sys.exit(str(refusal))


if __name__ == "__main__":
    # What the chassis logs of a good end is printed here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    main()
