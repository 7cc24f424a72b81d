"""Migrations that several replicas may start at once."""

import hashlib
import re
from pathlib import Path

import asyncpg

from chassis.postgres.database import Database, connect
from chassis.telemetry import log


class SchemaBehind(Exception):
    """The database's schema is older than this code needs."""


async def migrate(url: str, *, schema: str, folder: Path) -> int:
    """Brings `schema` up to the newest of `folder`'s `NNNN_name.sql` files; returns its number.

    Each file runs once, in a transaction of its own, under an advisory lock, so that
    replicas may start together. A file that was applied must not change afterwards:
    raises SchemaBehind naming it.
    """
    connection = await connect(url)
    try:
        lock = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:8], "big", signed=True)
        await connection.execute("SELECT pg_advisory_lock($1)", lock)
        await connection.execute(_in(schema, _CREATE))
        rows = await connection.fetch(_in(schema, "SELECT number, sha256 FROM $.migrations"))
        applied = {row["number"]: row["sha256"] for row in rows}
        newest = 0
        for number, path in _files(folder):
            newest = number
            text = path.read_text()
            digest = hashlib.sha256(text.encode()).hexdigest()
            if number not in applied:
                async with connection.transaction():
                    await connection.execute(text)
                    await connection.execute(_in(schema, _APPLIED), number, digest)
                log.info("migrated", schema=schema, file=path.name)
            elif applied[number] != digest:
                raise SchemaBehind(f"{path.name} was changed after it had been applied")
        return newest
    finally:
        await connection.close()


async def expect_schema(database: Database, *, schema: str, folder: Path) -> None:
    """Raises SchemaBehind unless every file of `folder` has been applied."""
    needed = max(number for number, _ in _files(folder))
    try:
        rows = await database.fetch(_in(schema, "SELECT max(number) FROM $.migrations"))
        newest = rows[0]["max"] or 0
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        newest = 0
    if newest < needed:
        raise SchemaBehind(f"schema {schema} is at {newest}, this code needs {needed}: migrate")


def _files(folder: Path) -> list[tuple[int, Path]]:
    return [(int(path.name[:4]), path) for path in sorted(folder.glob("[0-9]*_*.sql"))]


_CREATE = """
    CREATE SCHEMA IF NOT EXISTS $;
    CREATE TABLE IF NOT EXISTS $.migrations (
      number int PRIMARY KEY, sha256 text NOT NULL, at timestamptz NOT NULL DEFAULT now()
    )
"""
_APPLIED = "INSERT INTO $.migrations (number, sha256) VALUES ($1, $2)"


def _in(schema: str, statement: str) -> str:
    """The statement with `schema` for each bare `$`.

    An identifier cannot be a parameter; this is the only place where one is put into SQL.
    """
    if not re.fullmatch(r"[a-z_]{1,63}", schema):
        raise ValueError(f"not a schema's name: {schema!r}")
    return re.sub(r"\$(?!\d)", schema, statement)
