"""The use of a pool of connections, as the metrics show it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from prometheus_client import Counter, Gauge, Histogram

from chassis import telemetry
from chassis.postgres.errors import UNAVAILABLE

_in_use = Gauge(
    "postgres_pool_connections_in_use", "Connections of the pool that a caller has", ["pool"]
)
_max = Gauge("postgres_pool_connections_max", "Connections that the pool may have", ["pool"])
_waits_s = Histogram(
    "postgres_pool_wait_seconds",
    "Time until a caller had a connection, or gave up",
    ["pool"],
    buckets=telemetry.BUCKETS_S,
)
_errors = Counter(
    "postgres_errors_total",
    "Errors by the first two characters of their SQLSTATE, or `connection`",
    ["class"],
)


class PoolUse:
    """Hands out a pool's connections, and measures. `name` is the pool's in the metrics."""

    def __init__(self, pool: asyncpg.Pool, name: str) -> None:
        self._pool = pool
        self._waits_s = _waits_s.labels(name)
        _in_use.labels(name).set_function(lambda: pool.get_size() - pool.get_idle_size())
        _max.labels(name).set(pool.get_max_size())
        # A counter that appears with its first event has no rate for it.
        for known in {*map(_class, UNAVAILABLE), "22", "23", "42", "XX"}:
            _errors.labels(known)

    @asynccontextmanager
    async def acquire(self, *, timeout_s: float | None) -> AsyncIterator[PoolConnectionProxy]:
        """A connection within the context, waited for `timeout_s` at most; None: with no end.

        Counts and raises what is raised there by Postgres or for want of it.
        """
        began_s = perf_counter()
        try:
            try:
                connection = await self._pool.acquire(timeout=timeout_s)
            finally:
                self._waits_s.observe(perf_counter() - began_s)
            try:
                yield connection
            finally:
                await self._pool.release(connection)
        except (asyncpg.PostgresError, *UNAVAILABLE) as error:
            _errors.labels(_class(error)).inc()
            raise


def _class(error: Exception | type[Exception]) -> str:
    sqlstate: str | None = getattr(error, "sqlstate", None)
    return sqlstate[:2] if sqlstate else "connection"
