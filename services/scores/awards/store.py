"""The ledger in Postgres: awards, their reversals, receipts, and the outbox."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from chassis import clock
from chassis.batching import BATCH_MAX
from chassis.ids import uuid7
from chassis.postgres import Database
from chassis.replica import Reader
from chassis.telemetry import log
from services.scores.awards.records import (
    Claim,
    Entry,
    Order,
    Outstanding,
    Receipt,
    Sanction,
    ScoreRange,
    change,
    row,
    text,
)
from services.scores.boards.changes import Change, Row

ATTEMPTS_MAX = 3
MONTHS_AHEAD = 3
SEQ_MAX = 2**63 - 1


class Ledger:
    """Every method raises DbUnavailable when Postgres is away.

    `make_periods` is called when an award finds a board without its present period. Histories
    are read from `reader`, and may be some seconds old.
    """

    def __init__(
        self,
        database: Database,
        make_periods: Callable[[], Awaitable[None]],
        *,
        reader: Reader | None = None,
    ) -> None:
        self._database = database
        self._fetch = database.fetch
        self._read = (reader or database).fetch
        self._make_periods = make_periods

    async def award(self, claims: Sequence[Claim]) -> list[Row | ScoreRange]:
        """Writes at most 256 awards in one transaction, each action once; in their order.

        One claim that cannot be written never fails its neighbours.
        """
        try:
            return list(await self._award(claims))
        except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError):
            # One of them fails the statement for all, so each is tried alone.
            if len(claims) == 1:
                return [ScoreRange()]
            return [row for claim in claims for row in await self.award([claim])]

    async def _award(self, claims: Sequence[Claim]) -> list[Row]:
        for attempt in range(ATTEMPTS_MAX):
            try:
                return await self._write(claims)
            except asyncpg.PostgresError as error:
                if error.sqlstate == "SC404":
                    # In a transaction of its own: made under the batch's locks, players
                    # could deadlock.
                    await self._add_players(
                        [(c.user_id, c.username, c.name_version) for c in claims]
                    )
                elif error.sqlstate == "SC405":
                    await self._make_periods()
                elif _partition_missing(error) and attempt < ATTEMPTS_MAX - 1:
                    # The job that makes them ahead must have failed for months.
                    log.error("partition_missing", error=str(error))
                    await self.make_partitions()
                elif not isinstance(error, _AGAIN) or attempt == ATTEMPTS_MAX - 1:
                    raise
        return await self._write(claims)

    async def _write(self, claims: Sequence[Claim]) -> list[Row]:
        action, user, _, _, kind, points, attempt, client, key, body, _ = zip(*claims, strict=True)
        records = await self._fetch(
            """
            SELECT a.outcome, a.user_id, a.action_type, a.points, a.old_score, a.new_score,
                   a.version, a.seq, a.at_ms, a.attempt_id, a.client_id, a.key_hash, a.body_hash,
                   a.day_total, a.week_total, a.month_total, a.hidden, a.username, a.name_version
            FROM scores.award($1, $2, $3, $4, $5, $6, $7, $8, $9) AS a
            ORDER BY a.ord
            """,
            action,
            user,
            kind,
            points,
            attempt,
            _sparse(client),
            _sparse(key),
            _sparse(body),
            clock.offset(),
        )
        return [row(record, claim.action_id) for record, claim in zip(records, claims, strict=True)]

    async def _add_players(self, players: Sequence[tuple[str, str, int]]) -> None:
        await self._fetch(
            "SELECT scores.add_players($1, $2, $3)",
            *(list(column) for column in zip(*players, strict=True)),
        )

    async def rename(self, names: Sequence[tuple[str, str, int]]) -> None:
        """Keeps the newer of the known and the given (user id, name, name version)."""
        await self._fetch(
            """
            UPDATE scores.players p SET username = n.name, name_version = n.version
            FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS n(id, name, version)
            WHERE p.user_id = n.id AND p.name_version < n.version
            """,
            *(list(column) for column in zip(*names, strict=True)),
        )

    async def names(self, users: Sequence[str]) -> dict[str, tuple[int, str]]:
        """The names of `users`, each with its version, by id; unknown ones are left out."""
        records = await self._fetch(
            """
            SELECT p.user_id, p.name_version, p.username FROM scores.players p
            WHERE p.user_id = ANY ($1)
            """,
            users,
        )
        return {str(r["user_id"]): (r["name_version"], r["username"]) for r in records}

    async def rows(self, action_ids: Sequence[str]) -> dict[str, Row]:
        """The ledger rows of those actions, by id; without running totals."""
        records = await self._fetch(
            """
            SELECT 'seen' AS outcome, l.user_id, l.action_type, l.points, l.old_score,
                   l.new_score, l.version, l.seq,
                   (extract(epoch FROM l.at) * 1000)::bigint AS at_ms, l.attempt_id, l.client_id,
                   l.key_hash, l.body_hash, NULL AS day_total, NULL AS week_total,
                   NULL AS month_total, NULL AS hidden, NULL AS username, NULL AS name_version,
                   l.action_id
            FROM scores.ledger l
            WHERE l.action_id = ANY ($1::uuid[]) AND l.action_id >= $2 AND l.action_id <= $3
              AND l.kind = 'award'
            """,
            action_ids,
            # Scalar bounds let Postgres skip the other months' partitions.
            min(action_ids),
            max(action_ids),
        )
        found = [row(record, str(record["action_id"])) for record in records]
        return {one.action_id: one for one in found}

    async def receipts(self, action_ids: Sequence[str]) -> dict[str, Receipt]:
        """The receipts of those actions, by id."""
        records = await self._fetch(
            """
            SELECT r.action_id, r.rank, r.old_rank, r.warnings, r.held
            FROM scores.receipts r WHERE r.action_id = ANY ($1)
            """,
            action_ids,
        )
        return {
            str(r["action_id"]): Receipt(
                r["rank"], r["old_rank"], tuple(filter(None, r["warnings"].split(","))), r["held"]
            )
            for r in records
        }

    async def acknowledge(
        self, awards: Sequence[Change], receipts: Sequence[Receipt], *, settled: bool
    ) -> None:
        """Boards and events of the awards are acknowledged: writes receipts, clears the outbox.

        While their settlement is outstanding (not `settled`) they stay there, marked.
        """
        await self._fetch(
            "SELECT scores.acknowledge($1, $2, $3, $4, $5, $6, $7)",
            [award.seq for award in awards],
            [award.event_id for award in awards],
            [receipt.rank for receipt in receipts],
            [receipt.old_rank for receipt in receipts],
            [",".join(receipt.warnings) for receipt in receipts],
            [receipt.held for receipt in receipts],
            settled,
        )

    async def clear(self, seqs: Sequence[int]) -> None:
        """Takes changes that need no receipt, or have one, out of the outbox."""
        await self._fetch("DELETE FROM scores.outbox o WHERE o.seq = ANY ($1)", seqs)

    async def outstanding(self, *, after_s: float, limit: int = BATCH_MAX) -> list[Outstanding]:
        """The oldest changes in the outbox, older than `after_s`."""
        records = await self._fetch(
            """
            SELECT o.kind, o.event_id, o.origin_id, o.user_id, o.username, o.version, o.seq,
                   o.action_type, o.points, o.old_score, o.new_score,
                   (extract(epoch FROM o.at) * 1000)::bigint AS at_ms, o.hidden, o.published
            FROM scores.outbox o
            WHERE o.at < clock_timestamp() + $1 - make_interval(secs => $2)
            ORDER BY o.seq LIMIT $3
            """,
            clock.offset(),
            after_s,
            limit,
        )
        return [Outstanding(change(record), record["published"]) for record in records]

    async def history(self, user_id: str, *, before_seq: int | None, limit: int) -> list[Entry]:
        """A player's rows, newest first, from below `before_seq` on (None: from the newest)."""
        records = await self._read(
            """
            SELECT l.action_id, l.kind, l.origin_id, l.action_type, l.points, l.old_score,
                   l.new_score, l.version, l.seq, (extract(epoch FROM l.at) * 1000)::bigint AS at_ms
            FROM scores.ledger l
            WHERE l.user_id = $1 AND l.seq < $2
            ORDER BY l.seq DESC LIMIT $3
            """,
            user_id,
            SEQ_MAX if before_seq is None else before_seq,
            limit,
        )
        return [
            Entry(
                action_id=str(r["action_id"]),
                kind=r["kind"],
                origin_id=text(r["origin_id"]),
                action_type=r["action_type"],
                points=r["points"],
                old_score=r["old_score"],
                new_score=r["new_score"],
                version=r["version"],
                seq=r["seq"],
                at_ms=r["at_ms"],
            )
            for r in records
        ]

    async def total(self, user_id: str) -> int | None:
        """The player's total; None: there is no such player."""
        records = await self._fetch(
            "SELECT p.total FROM scores.players p WHERE p.user_id = $1", user_id
        )
        return records[0]["total"] if records else None

    async def reverse(self, order: Order, *, limit: int) -> list[Change]:
        """Voids or restores, in one transaction, at most `limit` awards, oldest first.

        Answers the changes, those that a dry run would have made as well. Raises ScoreRange.
        """
        try:
            return await self._reverse(order, limit)
        except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError):
            raise ScoreRange from None

    async def _reverse(self, order: Order, limit: int) -> list[Change]:
        async with self._database.transaction() as connection:
            records = await connection.fetch(
                """
                SELECT $1 AS kind, r.action_id AS event_id, r.origin_id, $2::uuid AS user_id,
                       r.username, r.version, r.seq, r.action_type, r.points, r.old_score,
                       r.new_score, r.at_ms, r.hidden
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
        return [change(record) for record in records]

    async def hide(self, sanctions: Sequence[Sanction]) -> list[Change]:
        """Hides or shows players by sanctions (at most 256) newer than the known ones.

        Answers the changes; none for who is hidden or shown already.
        """
        users = [s.user_id for s in sanctions]
        for _ in range(2):
            try:
                records = await self._fetch(
                    """
                    SELECT CASE WHEN h.hidden THEN 'hidden' ELSE 'shown' END AS kind, h.event_id,
                           NULL AS origin_id, h.user_id, h.username, h.version, h.seq,
                           '' AS action_type, 0 AS points, h.total AS old_score,
                           h.total AS new_score, h.at_ms, h.hidden
                    FROM scores.hide($1, $2, $3, $4, $5) AS h
                    """,
                    users,
                    [s.hidden for s in sanctions],
                    [s.version for s in sanctions],
                    [uuid7() for _ in sanctions],
                    clock.offset(),
                )
                return [change(record) for record in records]
            except asyncpg.PostgresError as error:
                if error.sqlstate != "SC404":
                    raise
                # Sanctioned before the first award: a row without a name, which that award brings.
                await self._add_players([(user, "", 0) for user in users])
        return []

    async def make_partitions(self) -> None:
        """Makes the ledger's partitions for the months ahead."""
        await self._fetch("SELECT scores.make_partitions($1, $2)", clock.now(), MONTHS_AHEAD)


# Two players' rows under one action id, or a deadlock: the whole batch again, which then
# sees the committed row.
_AGAIN = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)


def _partition_missing(error: asyncpg.PostgresError) -> bool:
    # Postgres names the constraint where a row's values break one, and none where no partition
    # takes the row.
    return isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name


def _sparse(column: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """None for a column without values, which UNNEST fills up with nulls at no cost."""
    return column if any(value is not None for value in column) else None
