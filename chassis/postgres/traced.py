"""Statements as spans, by OpenTelemetry's conventions for databases."""

import re
from functools import lru_cache
from typing import Any

import asyncpg
from opentelemetry.trace import SpanKind

from chassis.telemetry import traces
from chassis.telemetry.traces import Described

_STATEMENTS_MAX = 512  # of which the description is kept
_WORDS = 3  # of a statement that names no table
_WRITES = re.compile(r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(\w+\.\w+)", re.IGNORECASE)
_READS = re.compile(r"\bFROM\s+(\w+\.\w+)", re.IGNORECASE)


class TracedConnection(asyncpg.Connection):
    """A connection whose statements are spans of the request that runs them."""

    __slots__ = ()

    async def execute(self, query: str, *args: Any, **named: Any) -> str:
        with traces.span(statement, query):
            return await super().execute(query, *args, **named)

    async def executemany(self, command: str, args: Any, **named: Any) -> None:
        with traces.span(statement, command):
            await super().executemany(command, args, **named)

    async def fetch(self, query: str, *args: Any, **named: Any) -> Any:
        with traces.span(statement, query):
            return await super().fetch(query, *args, **named)

    async def fetchval(self, query: str, *args: Any, **named: Any) -> Any:
        with traces.span(statement, query):
            return await super().fetchval(query, *args, **named)

    async def fetchrow(self, query: str, *args: Any, **named: Any) -> Any:
        with traces.span(statement, query):
            return await super().fetchrow(query, *args, **named)


@lru_cache(_STATEMENTS_MAX)
def statement(sql: str) -> Described:
    """The statement by what it first writes, else reads: `INSERT INTO a.table`.

    Its text is left out, and its parameters are.
    """
    if found := _WRITES.search(sql):
        operation, table = " ".join(found[1].upper().split()), found[2]
    elif found := _READS.search(sql):
        operation, table = "SELECT", found[1]
    else:
        operation, table = " ".join(sql.split()[:_WORDS]), ""
    summary = f"{operation} {table}".strip()
    attributes = {
        "db.system.name": "postgresql",
        "db.operation.name": operation.split()[0],
        "db.query.summary": summary,
    }
    if table:
        attributes["db.collection.name"] = table
    return Described(summary, SpanKind.CLIENT, attributes)
