"""Sanctions in Postgres, and the outbox that publishes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from chassis import clock
from chassis.postgres import Database
from services.fraud.evaluations import Kind, Sanction

OUTBOX_KEPT_DAYS = 30
SANCTIONS_MAX = 1000  # in one read
DELIVERIES_MAX = 100  # in one claim

Connection = asyncpg.pool.PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Delivery:
    """A sanction that a target has not acknowledged; tried for the `attempts`-th time."""

    sanction: Sanction
    cause: str
    attempts: int


class SanctionStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def since(self, version: int) -> list[Sanction]:
        """Each player's latest sanction that is newer than `version`, by rising version."""
        sql = """
            SELECT s.user_id::text, s.kind, s.version,
                   (extract(epoch FROM s.until) * 1000)::bigint AS until_ms
              FROM fraud.sanctions s WHERE s.version > $1 ORDER BY s.version LIMIT $2"""
        return [_sanction(row) for row in await self._fetch(sql, version, SANCTIONS_MAX)]

    async def claim(self, target: str) -> list[Delivery]:
        """What is due for `target`, oldest first; due again after a pause growing to 30 s."""
        sql = """
            WITH claimed AS (
                SELECT version FROM fraud.outbox
                 WHERE target = $1 AND done IS NULL AND due <= clock_timestamp() + $2
                 ORDER BY version LIMIT $3 FOR UPDATE SKIP LOCKED
            ), postponed AS (
                UPDATE fraud.outbox AS o
                   SET attempts = o.attempts + 1,
                       due = clock_timestamp() + $2
                             + least(30, 0.25 * power(2, least(o.attempts, 10))) * interval '1 s'
                  FROM claimed WHERE o.target = $1 AND o.version = claimed.version
                RETURNING o.user_id, o.kind, o.version, o.until, o.cause, o.attempts
            )
            SELECT p.user_id::text, p.kind, p.version,
                   (extract(epoch FROM p.until) * 1000)::bigint AS until_ms, p.cause, p.attempts
              FROM postponed p ORDER BY p.version"""
        rows = await self._fetch(sql, target, clock.offset(), DELIVERIES_MAX)
        return [Delivery(_sanction(row), row["cause"], row["attempts"]) for row in rows]

    async def acknowledge(self, target: str, versions: Sequence[int]) -> None:
        """Marks deliveries as done, and drops those that were done 30 days ago."""
        sql = """
            WITH dropped AS (
                DELETE FROM fraud.outbox
                 WHERE done < clock_timestamp() + $3 - make_interval(days => $4)
            )
            UPDATE fraud.outbox SET done = clock_timestamp() + $3
             WHERE target = $1 AND version = ANY($2::bigint[])"""
        await self._fetch(sql, target, versions, clock.offset(), OUTBOX_KEPT_DAYS)

    async def deliver_again(self, target: str) -> None:
        """Makes due what was delivered in the last 30 days to `target`."""
        sql = """
            UPDATE fraud.outbox SET done = NULL, attempts = 0, due = clock_timestamp() + $2
             WHERE target = $1 AND done IS NOT NULL"""
        await self._fetch(sql, target, clock.offset())


async def sanctions_of(connection: Connection, user_ids: Sequence[str]) -> list[Sanction]:
    """The latest sanctions of those players, within the transaction of their evaluation."""
    sql = """
        SELECT s.user_id::text, s.kind, s.version,
               (extract(epoch FROM s.until) * 1000)::bigint AS until_ms
          FROM fraud.sanctions s WHERE s.user_id = ANY($1::uuid[])"""
    return [_sanction(row) for row in await connection.fetch(sql, user_ids)]


async def record_sanctions(
    connection: Connection, sanctions: Sequence[tuple[Sanction, str]], *, at_ms: int
) -> None:
    """Writes sanctions with their causes in the order of versions, and their outbox rows."""
    rows = [
        (s.user_id, s.kind.name.lower(), s.version, s.until_ms or None, cause, at_ms)
        for s, cause in sanctions
    ]
    upsert = """
        INSERT INTO fraud.sanctions AS s (user_id, kind, version, until, cause, at)
        VALUES ($1, $2, $3, to_timestamp($4::bigint / 1000.0), $5,
                to_timestamp($6::bigint / 1000.0))
        ON CONFLICT (user_id) DO UPDATE
           SET kind = excluded.kind, version = excluded.version, until = excluded.until,
               cause = excluded.cause, at = excluded.at"""
    enqueue = """
        INSERT INTO fraud.outbox (target, user_id, kind, version, until, cause, due)
        SELECT unnest(CASE $2 WHEN 'banned' THEN '{stream,auth}' ELSE '{stream}' END::text[]),
               $1, $2, $3, to_timestamp($4::bigint / 1000.0), $5,
               to_timestamp($6::bigint / 1000.0)"""
    await connection.executemany(upsert, rows)
    await connection.executemany(enqueue, rows)
    latest = max(s.version for s, _ in sanctions)
    await connection.execute("UPDATE fraud.versions SET version = $1", latest)


def _sanction(row: Any) -> Sanction:
    return Sanction(row["user_id"], Kind[row["kind"].upper()], row["version"], row["until_ms"] or 0)
