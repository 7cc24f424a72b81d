"""Postgres: one access object, migrations, and what stands on them.

Read `errors.py` and `database.py`, then `migrations.py`. `replica.py` reads from a replica that is
fresh enough, `outbox.py` sends what waits in a table to a peer.
"""

from chassis.postgres.database import Database, connect, open_database, open_pool
from chassis.postgres.errors import UNAVAILABLE, DbError, DbUnavailable, StatementUndone
from chassis.postgres.migrations import SchemaBehind, expect_schema, migrate

__all__ = [
    "UNAVAILABLE",
    "Database",
    "DbError",
    "DbUnavailable",
    "SchemaBehind",
    "StatementUndone",
    "connect",
    "expect_schema",
    "migrate",
    "open_database",
    "open_pool",
]
