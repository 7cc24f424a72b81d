"""All that the scores service keeps in Postgres: the ledger, totals, receipts, outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from chassis import clock
from chassis.batching import BATCH_MAX
from chassis.postgres import AWAY, DbUnavailable

ATTEMPTS_MAX = 3
MONTHS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """A verified award that asks to be written."""

    action_id: str
    user_id: str
    username: str
    name_version: int
    action_type: str
    points: int
    attempt_id: str
    key_hash: bytes | None
    body_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Row:
    """A ledger row, and the running totals right after it."""

    outcome: str  # inserted; seen: it was there before; copy: of an earlier item of the batch
    action_id: str
    user_id: str
    action_type: str
    points: int
    old_score: int
    new_score: int
    version: int
    seq: int
    at_ms: int
    attempt_id: str
    key_hash: bytes | None
    body_hash: bytes | None
    day_total: int
    week_total: int
    month_total: int
    hidden: bool
    username: str
    name_version: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was answered beside the ledger row."""

    rank: int | None
    old_rank: int | None
    warnings: tuple[str, ...]
    held: bool


class ScoreRange(Exception):
    """An award would take a total beyond what a score can be."""


class ScoreStore:
    """The `scores` schema. Every method raises DbUnavailable when Postgres is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def ping(self) -> None:
        """Returns when Postgres answers."""
        await self._fetch("SELECT 1")

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
                    await self._add_players(claims)
                elif not isinstance(error, _AGAIN) or attempt == ATTEMPTS_MAX - 1:
                    raise
        return await self._write(claims)

    async def _write(self, claims: Sequence[Claim]) -> list[Row]:
        records = await self._fetch(
            """
            SELECT a.ord, a.outcome, a.user_id, a.action_type, a.points, a.old_score, a.new_score,
                   a.version, a.seq, a.at_ms, a.attempt_id, a.key_hash, a.body_hash, a.day_total,
                   a.week_total, a.month_total, a.hidden, a.username, a.name_version
            FROM scores.award($1, $2, $3, $4, $5, $6, $7, $8) AS a
            ORDER BY a.ord
            """,
            [c.action_id for c in claims],
            [c.user_id for c in claims],
            [c.action_type for c in claims],
            [c.points for c in claims],
            [c.attempt_id for c in claims],
            [c.key_hash for c in claims],
            [c.body_hash for c in claims],
            clock.offset(),
        )
        return [
            _row(record, claim.action_id) for record, claim in zip(records, claims, strict=True)
        ]

    async def _add_players(self, claims: Sequence[Claim]) -> None:
        await self._fetch(
            "SELECT scores.add_players($1, $2, $3)",
            [c.user_id for c in claims],
            [c.username for c in claims],
            [c.name_version for c in claims],
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

    async def names(self, users: Sequence[str]) -> dict[str, str]:
        """The names of `users`, by id; those who never were awarded are left out."""
        records = await self._fetch(
            "SELECT p.user_id, p.username FROM scores.players p WHERE p.user_id = ANY ($1)", users
        )
        return {str(record["user_id"]): record["username"] for record in records}

    async def rows(self, action_ids: Sequence[str]) -> dict[str, Row]:
        """The ledger rows of those actions, by id; without running totals."""
        records = await self._fetch(
            """
            SELECT l.action_id, 'seen' AS outcome, l.user_id, l.action_type, l.points, l.old_score,
                   l.new_score, l.version, l.seq,
                   (extract(epoch FROM l.at) * 1000)::bigint AS at_ms, l.attempt_id, l.key_hash,
                   l.body_hash, NULL AS day_total, NULL AS week_total, NULL AS month_total,
                   NULL AS hidden, NULL AS username, NULL AS name_version
            FROM scores.ledger l
            WHERE l.action_id = ANY ($1::uuid[]) AND l.action_id >= $2 AND l.action_id <= $3
            """,
            action_ids,
            # Scalar bounds let Postgres skip the other months' partitions.
            min(action_ids),
            max(action_ids),
        )
        return {
            (row := _row(record, str(record["action_id"]))).action_id: row for record in records
        }

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
        self, rows: Sequence[Row], receipts: Sequence[Receipt], *, settled: bool
    ) -> None:
        """Board and event of `rows` are acknowledged: writes their receipts, clears the outbox.

        While their settlement is outstanding (not `settled`) the rows stay there, marked.
        """
        await self._fetch(
            "SELECT scores.acknowledge($1, $2, $3, $4, $5, $6, $7)",
            [row.seq for row in rows],
            [row.action_id for row in rows],
            [receipt.rank for receipt in receipts],
            [receipt.old_rank for receipt in receipts],
            [",".join(receipt.warnings) for receipt in receipts],
            [receipt.held for receipt in receipts],
            settled,
        )

    async def outstanding(
        self, *, after_s: float, limit: int = BATCH_MAX
    ) -> list[tuple[Row, bool]]:
        """The oldest awards of the outbox, older than `after_s`: (row, whether it is told)."""
        records = await self._fetch(
            """
            SELECT o.action_id, 'inserted' AS outcome, o.user_id, o.action_type, o.points,
                   o.old_score, o.new_score, o.version, o.seq,
                   (extract(epoch FROM o.at) * 1000)::bigint AS at_ms, o.day_total, o.week_total,
                   o.month_total, o.hidden, o.username, o.published, NULL AS attempt_id,
                   NULL AS key_hash, NULL AS body_hash, NULL AS name_version
            FROM scores.outbox o
            WHERE o.at < clock_timestamp() + $1 - make_interval(secs => $2)
            ORDER BY o.seq LIMIT $3
            """,
            clock.offset(),
            after_s,
            limit,
        )
        return [(_row(r, str(r["action_id"])), r["published"]) for r in records]

    async def outbox_age_s(self) -> float:
        """The age of the oldest award in the outbox; 0 for none."""
        (row,) = await self._fetch(
            """
            SELECT coalesce(extract(epoch FROM clock_timestamp() + $1 - min(o.at)), 0) AS age
            FROM scores.outbox o
            """,
            clock.offset(),
        )
        return float(row["age"])

    async def make_partitions(self) -> None:
        """Makes the ledger's partitions for the months ahead."""
        await self._fetch("SELECT scores.make_partitions($1, $2)", clock.now(), MONTHS_AHEAD)

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        try:
            return await self._pool.fetch(sql, *arguments)
        except AWAY as error:
            raise DbUnavailable from error


# Two players' rows under one action id, or a deadlock: the whole batch again, which then
# sees the committed row.
_AGAIN = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)


def _row(record: Any, action_id: str) -> Row:
    return Row(
        outcome=record["outcome"],
        action_id=action_id,
        user_id=str(record["user_id"]),
        action_type=record["action_type"],
        points=record["points"],
        old_score=record["old_score"],
        new_score=record["new_score"],
        version=record["version"],
        seq=record["seq"],
        at_ms=record["at_ms"],
        attempt_id=str(record["attempt_id"]),
        key_hash=record["key_hash"],
        body_hash=record["body_hash"],
        day_total=record["day_total"],
        week_total=record["week_total"],
        month_total=record["month_total"],
        hidden=record["hidden"],
        username=record["username"],
        name_version=record["name_version"],
    )
