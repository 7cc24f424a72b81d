"""The ledger in Postgres: awards, their reversals, receipts, and what is still to be sent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg
import msgspec

from chassis import clock
from chassis.batching import BATCH_MAX
from chassis.ids import uuid7
from chassis.postgres import Database, StatementUndone
from services.scores.awards.records import (
    Incident,
    Judged,
    Outstanding,
    Receipt,
    Reversal,
    Sanction,
    ScoreOutOfRange,
)
from services.scores.boards.changes import Change, Row, Written
from services.scores.boards.events import LATE_KEPT_DAYS
from services.scores.boards.names import Name

MONTHS_AHEAD = 3


class PlayersMissing(Exception):
    """Some players have no row yet: add them, and write again."""


class PeriodMissing(Exception):
    """A board lacks its present period: make it, and write again."""


class PartitionMissing(Exception):
    """The ledger lacks the month's partition: make it, and write again."""


class BatchConflict(StatementUndone):
    """Another batch wrote one of the actions, or a deadlock: write again, which sees its row."""


class LedgerStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fetch = database.fetch

    async def insert(self, judged: Sequence[Judged]) -> list[Row]:
        """Writes at most 256 awards in one transaction, each action once; in their order.

        Returns Written for each one inserted, the Row of an action that has one. Raises
        PlayersMissing, PeriodMissing, PartitionMissing, BatchConflict, ScoreOutOfRange.
        """
        with _typed_errors():
            records = await self._fetch(
                """
                SELECT a.outcome = 'inserted' AS inserted, ($1::uuid[])[a.ord]::text AS action_id,
                       a.user_id::text, a.action_type, a.points, a.old_score, a.new_score,
                       a.version, a.seq, a.at_ms, a.attempt_id::text, a.client_id, a.key_hash,
                       a.body_hash, a.day_total, a.week_total, a.month_total, a.hidden,
                       a.username, a.name_version, a.boards
                FROM scores.award($1, $2, $3, $4, $5, $6, $7, $8, $9) AS a ORDER BY a.ord
                """,
                [j.action_id for j in judged],
                [j.user_id for j in judged],
                [j.action_type for j in judged],
                [j.points for j in judged],
                [j.attempt_id for j in judged],
                _sparse([j.client_id for j in judged]),
                _sparse([j.key_hash for j in judged]),
                _sparse([j.body_hash for j in judged]),
                clock.offset(),
            )
        # A row that was there has no running totals.
        return [msgspec.convert(dict(r), Written if r["inserted"] else Row) for r in records]

    async def give_up(self, action_id: str, user_id: str, action_type: str) -> str:
        """Uses an action up for nothing, unless it has a row; the kind of the row that it has."""
        ((kind,),) = await self._fetch(
            "SELECT scores.give_up($1, $2, $3, $4)",
            action_id,
            user_id,
            action_type,
            clock.offset(),
        )
        return str(kind)

    async def add_players(self, players: Sequence[tuple[str, str, int]]) -> None:
        """Adds those players (user id, name, name version) who have no row yet."""
        await self._fetch("SELECT scores.add_players($1, $2, $3)", *_columns(players))

    async def rename(self, names: Mapping[str, Name]) -> None:
        """Keeps the newer of the known and the given names, by user id."""
        await self._fetch(
            """
            UPDATE scores.players p SET username = n.name, name_version = n.version
            FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS n(id, version, name)
            WHERE p.user_id = n.id AND p.name_version < n.version
            """,
            list(names),
            *_columns(names.values()),
        )

    async def rows(self, action_ids: Sequence[str]) -> dict[str, Row]:
        """The ledger rows of those actions, by id: awards, and what was given up."""
        records = await self._fetch(
            """
            SELECT l.action_id::text, l.user_id::text, l.action_type, l.points, l.old_score,
                   l.new_score, l.version, l.seq, l.attempt_id::text, l.client_id, l.key_hash,
                   l.body_hash, (extract(epoch FROM l.at) * 1000)::bigint AS at_ms
            FROM scores.ledger l
            WHERE l.action_id = ANY ($1::uuid[]) AND l.action_id >= $2 AND l.action_id <= $3
              AND l.kind IN ('award', 'given_up')
            """,
            action_ids,
            # Scalar bounds let Postgres skip the other months' partitions.
            min(action_ids),
            max(action_ids),
        )
        return {r["action_id"]: Row(**r) for r in records}

    async def receipts(self, action_ids: Sequence[str]) -> dict[str, Receipt]:
        """The receipts of those actions, by id."""
        records = await self._fetch(
            """
            SELECT r.action_id::text, r.rank, r.old_rank,
                   string_to_array(r.warnings, ',') AS warnings, r.held
            FROM scores.receipts r WHERE r.action_id = ANY ($1)
            """,
            action_ids,
        )
        return {r["action_id"]: msgspec.convert(dict(r), Receipt) for r in records}

    async def acknowledge(
        self, receipts: Sequence[tuple[int, str, Receipt]], *, settled: bool
    ) -> None:
        """Boards and event stream have the awards (seq, action id, receipt): writes the receipts,
        clears the outbox.

        While their settlement is outstanding (not `settled`) they stay there, marked.
        """
        await self._fetch(
            "SELECT scores.acknowledge($1, $2, $3, $4, $5, $6, $7)",
            [seq for seq, _, _ in receipts],
            [action_id for _, action_id, _ in receipts],
            [receipt.rank for _, _, receipt in receipts],
            [receipt.old_rank for _, _, receipt in receipts],
            [",".join(receipt.warnings) for _, _, receipt in receipts],
            [receipt.held for _, _, receipt in receipts],
            settled,
        )

    async def clear(self, seqs: Sequence[int]) -> None:
        """Takes changes that need no receipt, or have one, out of the outbox."""
        await self._fetch("DELETE FROM scores.outbox o WHERE o.seq = ANY ($1)", seqs)

    async def outstanding(self, *, after_s: float) -> list[Outstanding]:
        """The oldest changes in the outbox, older than `after_s`; at most 256."""
        records = await self._fetch(
            """
            SELECT o.kind, o.event_id::text, o.origin_id::text, o.user_id::text, o.username,
                   o.version, o.seq, o.action_type, o.points, o.old_score, o.new_score,
                   (extract(epoch FROM o.at) * 1000)::bigint AS at_ms, o.hidden, o.published
            FROM scores.outbox o
            WHERE o.at < clock_timestamp() + $1 - make_interval(secs => $2)
            ORDER BY o.seq LIMIT $3
            """,
            clock.offset(),
            after_s,
            BATCH_MAX,
        )
        return [Outstanding(**record) for record in records]

    async def note_late(self, oldest_ms: int) -> None:
        """Records that a change as old as `oldest_ms` (Unix ms) is published only now."""
        await self._fetch(
            """
            WITH dropped AS (
              DELETE FROM scores.late_publications
              WHERE minute < clock_timestamp() + $2 - make_interval(days => $3)
            )
            INSERT INTO scores.late_publications AS o (minute, oldest)
            VALUES (date_trunc('minute', clock_timestamp() + $2), to_timestamp($1::bigint / 1000.0))
            ON CONFLICT (minute) DO UPDATE SET oldest = least(o.oldest, excluded.oldest)
            """,
            oldest_ms,
            clock.offset(),
            LATE_KEPT_DAYS,
        )

    async def total(self, user_id: str) -> int | None:
        """The player's total; None: there is no such player."""
        records = await self._fetch(
            "SELECT p.total FROM scores.players p WHERE p.user_id = $1", user_id
        )
        return records[0]["total"] if records else None

    async def reverse(self, order: Reversal, *, limit: int) -> list[Change]:
        """Voids or restores, in one transaction, at most `limit` awards, oldest first.

        Returns the changes, also those that a dry run would have made. Raises ScoreOutOfRange.
        """
        with _typed_errors():
            async with self._database.transaction() as connection:
                records = await connection.fetch(
                    """
                    SELECT $1 AS kind, r.action_id::text AS event_id, r.origin_id::text,
                           $2::uuid::text AS user_id, r.username, r.version, r.seq, r.action_type,
                           r.points, r.old_score, r.new_score, r.at_ms, r.hidden
                    FROM scores.reverse($1, $2, $3, $4, $5, $6, $7, $8, $9) AS r
                    """,
                    order.kind,
                    order.user_id,
                    order.start,
                    order.end,
                    order.action_ids,
                    [uuid7() for _ in range(limit)],
                    order.reason,
                    order.actor,
                    clock.offset(),
                )
                if order.dry_run:
                    # The same statement, undone: what would happen is what happened.
                    await connection.execute("ROLLBACK AND CHAIN")
        return [Change(**record) for record in records]

    async def hide(self, sanctions: Sequence[Sanction]) -> list[Change]:
        """Hides or shows players by sanctions (at most 256) newer than the known ones.

        Returns the changes; none for a player who is hidden or shown already. Raises
        PlayersMissing.
        """
        with _typed_errors():
            records = await self._fetch(
                """
                SELECT CASE WHEN h.hidden THEN 'hidden' ELSE 'shown' END AS kind,
                       h.event_id::text, h.user_id::text, h.username, h.version, h.seq,
                       h.total AS old_score, h.total AS new_score, h.at_ms, h.hidden
                FROM scores.hide($1, $2, $3, $4, $5) AS h
                """,
                *_columns(sanctions),
                [uuid7() for _ in sanctions],
                clock.offset(),
            )
        return [Change(**record) for record in records]

    async def make_partitions(self) -> None:
        """Makes the ledger's partitions for the months ahead."""
        await self._fetch("SELECT scores.make_partitions($1, $2)", clock.now(), MONTHS_AHEAD)

    async def add_incidents(self, incidents: Sequence[Incident]) -> None:
        """Stores incidents for fraud, each once."""
        await self._fetch(
            """
            INSERT INTO scores.incidents (incident_id, user_id, action_id, action_type, at_ms)
            SELECT i.incident_id, i.user_id, i.action_id, i.action_type, i.at_ms
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[])
                 AS i(incident_id, user_id, action_id, action_type, at_ms)
            ON CONFLICT (incident_id) DO NOTHING
            """,
            *_columns(incidents),
        )

    async def incidents(self) -> list[Incident]:
        """At most 256 of those that fraud has not received."""
        records = await self._fetch(
            """
            SELECT i.incident_id::text, i.user_id::text, i.action_id::text, i.action_type, i.at_ms
            FROM scores.incidents i LIMIT $1
            """,
            BATCH_MAX,
        )
        return [Incident(**record) for record in records]

    async def delete_incidents(self, incident_ids: Sequence[str]) -> None:
        """Deletes those that fraud has received."""
        await self._fetch(
            "DELETE FROM scores.incidents i WHERE i.incident_id = ANY ($1)", incident_ids
        )


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except StatementUndone as undone:
        if isinstance(undone.__cause__, asyncpg.TransactionRollbackError):
            raise BatchConflict from undone
        raise
    except asyncpg.PostgresError as error:
        raise _typed(error) from error


def _typed(error: asyncpg.PostgresError) -> Exception:
    match error:
        # Postgres names the constraint that a row breaks, and none where no partition takes it.
        case asyncpg.CheckViolationError() if not error.constraint_name:
            return PartitionMissing(str(error))
        case asyncpg.CheckViolationError() | asyncpg.NumericValueOutOfRangeError():
            return ScoreOutOfRange()
        case asyncpg.UniqueViolationError():
            return BatchConflict()
    # What the functions of the schema raise.
    match error.sqlstate:
        case "SC404":
            return PlayersMissing()
        case "SC405":
            return PeriodMissing()
    return error


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))


def _sparse(column: list[Any]) -> list[Any] | None:
    """None for a column without values, which UNNEST fills up with nulls at no cost."""
    return column if any(value is not None for value in column) else None
