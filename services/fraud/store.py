"""All storage of fraud in Postgres: verdicts, sanctions and their outbox, incidents, events."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database
from services.fraud import rules
from services.fraud.evaluations import (
    Case,
    Evaluation,
    EvaluationBatch,
    Judgement,
    Kind,
    Record,
    Sanction,
    Verdict,
)
from services.fraud.rules import Decision, Reason

OUTBOX_KEPT_DAYS = 30

Connection = asyncpg.pool.PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident that another unit found. `at_ms` is Unix time; empty ids: none."""

    incident_id: str
    user_id: str
    rule: str
    action_id: str
    action_type: str
    observed: int
    threshold: int
    at_ms: int
    other_user_id: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A sanction that a target has not acknowledged; tried for the `attempts`-th time."""

    sanction: Sanction
    cause: str
    attempts: int


class Event(NamedTuple):
    """An award as fraud keeps it."""

    event_id: str
    kind: str
    seq: int
    user_id: str
    version: int
    action_type: str
    points: int
    old_score: int
    new_score: int
    at_ms: int


class FraudStore:
    """Fraud's own schema. Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settling = asyncio.Lock()

    async def verdicts(self, subject_ids: Sequence[str]) -> dict[str, Verdict]:
        """The recorded verdicts by subject; those that were allowed are not recorded."""
        async with self._database.connection() as connection:
            return await _verdicts(connection, subject_ids)

    async def settle(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        """Decides evaluations in order; returns each one's verdict and its player's sanction.

        A subject that has a verdict keeps it. Verdict, sanction, case and outbox are one
        transaction.
        """
        # One at a time, since the database would let only one go on while the others
        # kept their connections from everybody else.
        async with self._settling, self._database.transaction() as connection:
            batch = await _open(connection, evaluations)
            answers = []
            for evaluation in evaluations:
                verdict = batch.evaluate(evaluation)
                answers.append((verdict, batch.records[evaluation.user_id].sanction))
            await _write(connection, batch)
        return answers

    async def sanctions_since(self, version: int, *, limit: int = 1000) -> list[Sanction]:
        """Each player's latest sanction that is newer than `version`, by rising version."""
        rows = await self._database.fetch(
            """
            SELECT user_id, kind, version, until FROM fraud.sanctions
             WHERE version > $1 ORDER BY version LIMIT $2
            """,
            version,
            limit,
        )
        return [_sanction(row) for row in rows]

    async def report(self, incidents: Sequence[Incident], *, grave: frozenset[str]) -> list[Case]:
        """Stores the incidents that are new; returns the cases that those of `grave` opened."""
        first = {incident.incident_id: incident for incident in reversed(incidents)}
        async with self._database.transaction() as connection:
            # In the order of ids, so that two reports of the same ones never wait for each other.
            new = await _record_incidents(connection, [first[i] for i in sorted(first)])
            cases = [
                case
                for incident_id in new
                if first[incident_id].rule in grave
                for case in _cases(first[incident_id])
            ]
            await _open_cases(connection, cases)
        return cases

    async def claim(self, target: str, *, limit: int = 100) -> list[Delivery]:
        """What is due for `target`, oldest first; due again after a pause growing to 30 s."""
        rows = await self._database.fetch(
            """
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
            SELECT user_id, kind, version, until, cause, attempts FROM postponed ORDER BY version
            """,
            target,
            clock.offset(),
            limit,
        )
        return [Delivery(_sanction(row), row["cause"], row["attempts"]) for row in rows]

    async def acknowledge(self, target: str, versions: Sequence[int]) -> None:
        """Marks deliveries as done, and drops those that were done 30 days ago."""
        await self._database.fetch(
            """
            WITH dropped AS (
                DELETE FROM fraud.outbox
                 WHERE done < clock_timestamp() + $3 - make_interval(days => $4)
            )
            UPDATE fraud.outbox SET done = clock_timestamp() + $3
             WHERE target = $1 AND version = ANY($2::bigint[])
            """,
            target,
            versions,
            clock.offset(),
            OUTBOX_KEPT_DAYS,
        )

    async def deliver_again(self, target: str) -> None:
        """Makes due what was delivered in the last 30 days to `target`."""
        await self._database.fetch(
            """
            UPDATE fraud.outbox SET done = NULL, attempts = 0, due = clock_timestamp() + $2
             WHERE target = $1 AND done IS NOT NULL
            """,
            target,
            clock.offset(),
        )

    async def position(self) -> str:
        """How far the stream of awards was copied: the id of an entry."""
        (row,) = await self._database.fetch(
            "SELECT entry_id FROM fraud.positions WHERE stream = 'awards'"
        )
        return str(row["entry_id"])

    async def copy_events(self, events: Sequence[Event], *, after: str, upto: str) -> str | None:
        """Appends the events that are new and moves the position from `after` to `upto`.

        Returns the new position; None, and nothing was done, if another replica moved it first.
        """
        rows = await self._database.fetch(
            """
            WITH moved AS (
                UPDATE fraud.positions SET entry_id = $2, seq = greatest(seq, $3)
                 WHERE stream = 'awards' AND entry_id = $1 RETURNING entry_id
            ), copied AS (
                INSERT INTO fraud.events (event_id, kind, seq, user_id, version, action_type,
                                          points, old_score, new_score, at)
                SELECT e.event_id, e.kind, e.seq, e.user_id, e.version, e.action_type,
                       e.points, e.old_score, e.new_score, e.at
                FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::uuid[], $8::bigint[],
                            $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
                            $13::timestamptz[])
                  AS e(event_id, kind, seq, user_id, version, action_type, points, old_score,
                       new_score, at)
                WHERE EXISTS (SELECT FROM moved)
                ON CONFLICT (event_id) DO NOTHING
            )
            SELECT m.entry_id FROM moved m
            """,
            after,
            upto,
            max((event.seq for event in events), default=0),
            [e.event_id for e in events],
            [e.kind for e in events],
            [e.seq for e in events],
            [e.user_id for e in events],
            [e.version for e in events],
            [e.action_type for e in events],
            [e.points for e in events],
            [e.old_score for e in events],
            [e.new_score for e in events],
            [_moment(e.at_ms) for e in events],
        )
        return rows[0]["entry_id"] if rows else None


async def _open(connection: Connection, evaluations: Sequence[Evaluation]) -> EvaluationBatch:
    # This lock is held until the commit: verdicts are recorded one transaction after the
    # other, so a player's strikes are counted once, however many replicas see the burst.
    version = await connection.fetchval("SELECT version FROM fraud.versions FOR UPDATE")
    at = await connection.fetchval("SELECT clock_timestamp() + $1::interval", clock.offset())
    at_ms = _ms(at)
    records = {evaluation.user_id: Record() for evaluation in evaluations}
    for row in await connection.fetch(
        "SELECT user_id, kind, version, until FROM fraud.sanctions WHERE user_id = ANY($1::uuid[])",
        list(records),
    ):
        records[str(row["user_id"])].sanction = _sanction(row)
    for row in await connection.fetch(
        """
        SELECT user_id, decision_id, at FROM fraud.verdicts
         WHERE user_id = ANY($1::uuid[]) AND strike AND at > $2 ORDER BY at
        """,
        list(records),
        _moment(at_ms - rules.STRIKES_WINDOW_MS),
    ):
        strike = (str(row["decision_id"]), _ms(row["at"]))
        records[str(row["user_id"])].strikes.append(strike)
    verdicts = await _verdicts(connection, [evaluation.subject_id for evaluation in evaluations])
    return EvaluationBatch(version=version, at_ms=at_ms, verdicts=verdicts, records=records)


async def _write(connection: Connection, batch: EvaluationBatch) -> None:
    at = _moment(batch.at_ms)
    await _record_verdicts(connection, batch, at)
    if batch.sanctions:
        await _set_sanctions(connection, batch.sanctions, at)
    await _open_cases(connection, batch.cases)


async def _verdicts(connection: Connection, subject_ids: Sequence[str]) -> dict[str, Verdict]:
    rows = await connection.fetch(
        """
        SELECT subject_id, decision, ruleset, reasons, decision_id FROM fraud.verdicts
         WHERE subject_id = ANY($1::uuid[])
        """,
        subject_ids,
    )
    return {
        str(row["subject_id"]): Verdict(
            Decision[row["decision"].upper()],
            row["ruleset"],
            msgspec.json.decode(row["reasons"], type=tuple[Reason, ...]),
            str(row["decision_id"]),
        )
        for row in rows
    }


async def _record_verdicts(connection: Connection, batch: EvaluationBatch, at: datetime) -> None:
    await connection.executemany(
        """
        INSERT INTO fraud.verdicts (subject_id, action_id, user_id, decision_id, decision,
                                    ruleset, reasons, facts, strike, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        """,
        [
            (
                evaluation.subject_id,
                evaluation.action_id,
                evaluation.user_id,
                found.verdict.decision_id,
                found.verdict.decision.name.lower(),
                found.verdict.ruleset,
                _json(found.verdict.reasons),
                _json(found.facts),
                found.strike,
                at,
            )
            for evaluation, found in batch.outcomes
        ],
    )


async def _set_sanctions(
    connection: Connection, sanctions: Sequence[tuple[Sanction, str]], at: datetime
) -> None:
    """Writes sanctions in the order of their versions, with their outbox rows."""
    rows = [
        (
            sanction.user_id,
            sanction.kind.name.lower(),
            sanction.version,
            _moment(sanction.until_ms) if sanction.until_ms else None,
            cause,
            at,
        )
        for sanction, cause in sanctions
    ]
    await connection.executemany(
        """
        INSERT INTO fraud.sanctions AS s (user_id, kind, version, until, cause, at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (user_id) DO UPDATE
           SET kind = excluded.kind, version = excluded.version, until = excluded.until,
               cause = excluded.cause, at = excluded.at
        """,
        rows,
    )
    await connection.executemany(
        """
        INSERT INTO fraud.outbox (target, user_id, kind, version, until, cause, due)
        SELECT unnest(CASE $2 WHEN 'banned' THEN '{stream,auth}' ELSE '{stream}' END::text[]),
               $1, $2, $3, $4, $5, $6
        """,
        rows,
    )
    await connection.execute(
        "UPDATE fraud.versions SET version = $1", max(s.version for s, _ in sanctions)
    )


async def _record_incidents(connection: Connection, incidents: Sequence[Incident]) -> list[str]:
    """Returns the ids of those that were new, in no particular order."""
    rows = await connection.fetch(
        """
        INSERT INTO fraud.incidents (incident_id, user_id, rule, action_id, action_type,
                                     observed, threshold, at, other_user_id, reported_at)
        SELECT unnest($1::text[]), unnest($2::uuid[]), unnest($3::text[]), unnest($4::uuid[]),
               unnest($5::text[]), unnest($6::bigint[]), unnest($7::bigint[]),
               unnest($8::timestamptz[]), unnest($9::uuid[]), clock_timestamp() + $10::interval
        ON CONFLICT (incident_id) DO NOTHING
        RETURNING incident_id
        """,
        [i.incident_id for i in incidents],
        [i.user_id for i in incidents],
        [i.rule for i in incidents],
        [i.action_id or None for i in incidents],
        [i.action_type for i in incidents],
        [i.observed for i in incidents],
        [i.threshold for i in incidents],
        [_moment(i.at_ms) for i in incidents],
        [i.other_user_id or None for i in incidents],
        clock.offset(),
    )
    return [row["incident_id"] for row in rows]


def _cases(incident: Incident) -> list[Case]:
    """One per player: the owner of a token that another one uses is looked at as well."""
    reason = rules.incident_reason(
        incident.rule,
        observed=incident.observed,
        threshold=incident.threshold,
        action_id=incident.action_id,
    )
    users = dict.fromkeys([incident.user_id, incident.other_user_id or incident.user_id])
    return [Case(user, incident.incident_id, (reason,)) for user in users]


async def _open_cases(connection: Connection, cases: Sequence[Case]) -> None:
    await connection.executemany(
        """
        INSERT INTO fraud.cases (case_id, user_id, rule, source_id, reasons, opened_at)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
        ON CONFLICT (source_id, user_id) DO NOTHING
        """,
        [
            (
                uuid7(),
                case.user_id,
                case.reasons[0].rule,
                case.source_id,
                _json(case.reasons),
                clock.offset(),
            )
            for case in cases
        ],
    )


def _sanction(row: Any) -> Sanction:
    until = row["until"]
    return Sanction(
        str(row["user_id"]),
        Kind[row["kind"].upper()],
        row["version"],
        _ms(until) if until else 0,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
