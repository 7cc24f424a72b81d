"""Verdicts, incidents and cases in Postgres, and fraud's own copy of the awards."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from chassis import clock
from chassis.ids import uuid7
from chassis.postgres import Database
from chassis.redis.stream import Position
from protos.events_pb2 import ScoreEvent
from protos.fraud_pb2 import Incident
from services.fraud import rules
from services.fraud.evaluations import Case, Evaluation, EvaluationBatch, Judgement, Record, Verdict
from services.fraud.rules import Decision, Reason
from services.fraud.sanctions_store import Connection, record_sanctions, sanctions_of

_KINDS = {number: name.lower() for name, number in ScoreEvent.Kind.items()}


class Progress(NamedTuple):
    """How far the awards were copied: from the stream, and by a catch-up from the ledger."""

    position: Position
    # While a catch-up runs: of what was published since then (Unix ms); None: none runs.
    since_ms: int | None = None
    cursor: str = ""  # behind what it has copied


class FraudStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._evaluating = asyncio.Lock()

    async def verdicts(self, subject_ids: Sequence[str]) -> dict[str, Verdict]:
        """The recorded verdicts by subject; those that were allowed are not recorded."""
        async with self._database.connection() as connection:
            return await _verdicts(connection, subject_ids)

    async def evaluate(self, evaluations: Sequence[Evaluation]) -> list[Judgement]:
        """Decides evaluations in order; returns each one's verdict and its player's sanction.

        A subject that has a verdict keeps it. Verdict, sanction, case and outbox are one
        transaction.
        """
        # One at a time: the database would let only one go on, while the others kept
        # their connections from all other callers.
        async with self._evaluating, self._database.transaction() as connection:
            batch = await _load(connection, evaluations)
            # Each with the sanction as of its turn.
            judgements = [
                (batch.evaluate(e), batch.records[e.attempt.user_id].sanction) for e in evaluations
            ]
            await _record_verdicts(connection, batch)
            if batch.sanctions:
                await record_sanctions(connection, batch.sanctions, at_ms=batch.at_ms)
            await _open_cases(connection, batch.cases)
        return judgements

    async def report(
        self, incidents: Sequence[Incident], *, grave: frozenset[str]
    ) -> tuple[list[Incident], list[Case]]:
        """Stores the incidents that are new; returns them, and the cases opened for rules in
        `grave`."""
        first = {incident.incident_id: incident for incident in reversed(incidents)}
        async with self._database.transaction() as connection:
            # In the order of ids, so that two reports of the same ones never wait for each other.
            ids = await _record_incidents(connection, [first[i] for i in sorted(first)])
            new = [first[incident_id] for incident_id in ids]
            cases = [case for found in new if found.rule in grave for case in _cases(found)]
            await _open_cases(connection, cases)
        return new, cases

    async def progress(self) -> Progress:
        """How far the stream of awards was copied."""
        sql = """
            SELECT entry_id, entries, server, since_ms, cursor
              FROM fraud.positions WHERE stream = 'awards'"""
        ((entry_id, entries, server, since_ms, cursor),) = await self._database.fetch(sql)
        return Progress(Position(entry_id, entries, server), since_ms, cursor)

    async def copy(
        self, events: Sequence[ScoreEvent], *, after: Progress, upto: Progress
    ) -> Progress | None:
        """Appends the events that are new and moves the progress from `after` to `upto`.

        Returns the new progress; None, and nothing was done, if another replica moved it first.
        """
        sql = """
            WITH moved AS (
                UPDATE fraud.positions
                   SET entry_id = $14, entries = $15, server = $16, since_ms = $17, cursor = $18
                 WHERE stream = 'awards' AND entry_id = $1 AND since_ms IS NOT DISTINCT FROM $2
                   AND cursor = $3
                RETURNING entry_id
            ), copied AS (
                INSERT INTO fraud.events (event_id, kind, seq, user_id, version, action_type,
                                          points, old_score, new_score, at)
                SELECT e.event_id, e.kind, e.seq, e.user_id, e.version, e.action_type,
                       e.points, e.old_score, e.new_score, to_timestamp(e.at_ms / 1000.0)
                FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::uuid[], $8::bigint[],
                            $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
                            $13::bigint[])
                  AS e(event_id, kind, seq, user_id, version, action_type, points, old_score,
                       new_score, at_ms)
                WHERE EXISTS (SELECT FROM moved)
                ON CONFLICT (event_id) DO NOTHING
            )
            SELECT m.entry_id FROM moved m"""
        columns = (
            [e.event_id for e in events],
            [_KINDS[e.kind] for e in events],
            [e.seq for e in events],
            [e.user_id for e in events],
            [e.version for e in events],
            [e.action_type for e in events],
            [e.points for e in events],
            [e.old_score for e in events],
            [e.new_score for e in events],
            [e.at_ms for e in events],
        )
        expected = (after.position.entry_id, after.since_ms, after.cursor)
        rows = await self._database.fetch(
            sql, *expected, *columns, *upto.position, upto.since_ms, upto.cursor
        )
        return upto if rows else None


async def _load(connection: Connection, evaluations: Sequence[Evaluation]) -> EvaluationBatch:
    # This lock is held until the commit: verdicts are recorded one transaction after the
    # other, so a player's strikes are counted once, however many replicas see the burst.
    version = await connection.fetchval("SELECT version FROM fraud.versions FOR UPDATE")
    # In a statement of its own: the time after the wait for the lock.
    now = "SELECT (extract(epoch FROM clock_timestamp() + $1::interval) * 1000)::bigint"
    at_ms = await connection.fetchval(now, clock.offset())
    records = {evaluation.attempt.user_id: Record() for evaluation in evaluations}
    for sanction in await sanctions_of(connection, list(records)):
        records[sanction.user_id].sanction = sanction
    strikes = """
        SELECT v.user_id::text, v.decision_id::text,
               (extract(epoch FROM v.at) * 1000)::bigint AS at_ms
          FROM fraud.verdicts v
         WHERE v.user_id = ANY($1::uuid[]) AND v.strike
           AND v.at > to_timestamp($2::bigint / 1000.0) ORDER BY v.at"""
    since_ms = at_ms - rules.STRIKES_WINDOW_MS
    for row in await connection.fetch(strikes, list(records), since_ms):
        records[row["user_id"]].strikes.append((row["decision_id"], row["at_ms"]))
    verdicts = await _verdicts(connection, [e.attempt.subject_id for e in evaluations])
    return EvaluationBatch(version=version, at_ms=at_ms, verdicts=verdicts, records=records)


async def _verdicts(connection: Connection, subject_ids: Sequence[str]) -> dict[str, Verdict]:
    sql = """
        SELECT v.subject_id::text, v.decision, v.ruleset, v.reasons, v.decision_id::text
          FROM fraud.verdicts v WHERE v.subject_id = ANY($1::uuid[])"""
    return {
        row["subject_id"]: Verdict(
            Decision[row["decision"].upper()],
            row["ruleset"],
            msgspec.json.decode(row["reasons"], type=tuple[Reason, ...]),
            row["decision_id"],
        )
        for row in await connection.fetch(sql, subject_ids)
    }


async def _record_verdicts(connection: Connection, batch: EvaluationBatch) -> None:
    sql = """
        INSERT INTO fraud.verdicts (subject_id, action_id, user_id, decision_id, decision,
                                    ruleset, reasons, facts, strike, at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10::bigint / 1000.0))"""
    rows = [
        (
            evaluation.attempt.subject_id,
            evaluation.attempt.action_id,
            evaluation.attempt.user_id,
            found.verdict.decision_id,
            found.verdict.decision.name.lower(),
            found.verdict.ruleset,
            _json(found.verdict.reasons),
            _json(found.facts),
            found.strike,
            batch.at_ms,
        )
        for evaluation, found in batch.outcomes
    ]
    await connection.executemany(sql, rows)


async def _record_incidents(connection: Connection, incidents: Sequence[Incident]) -> list[str]:
    """Returns the ids of those that were new, in no particular order."""
    sql = """
        INSERT INTO fraud.incidents (incident_id, user_id, rule, action_id, action_type,
                                     observed, threshold, at, other_user_id, reported_at)
        SELECT i.incident_id, i.user_id, i.rule, nullif(i.action_id, '')::uuid, i.action_type,
               i.observed, i.threshold, to_timestamp(i.at_ms / 1000.0),
               nullif(i.other_user_id, '')::uuid, clock_timestamp() + $10::interval
          FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                      $7::bigint[], $8::bigint[], $9::text[])
            AS i(incident_id, user_id, rule, action_id, action_type, observed, threshold, at_ms,
                 other_user_id)
        ON CONFLICT (incident_id) DO NOTHING
        RETURNING incident_id"""
    columns = (
        [i.incident_id for i in incidents],
        [i.user_id for i in incidents],
        [i.rule for i in incidents],
        [i.action_id for i in incidents],
        [i.action_type for i in incidents],
        [i.observed for i in incidents],
        [i.threshold for i in incidents],
        [i.at_ms for i in incidents],
        [i.other_user_id for i in incidents],
    )
    rows = await connection.fetch(sql, *columns, clock.offset())
    return [row["incident_id"] for row in rows]


def _cases(incident: Incident) -> list[Case]:
    """One per player: the owner of a token that another one uses is looked at as well."""
    reasons = (rules.incident_reason(incident),)
    users = dict.fromkeys([incident.user_id, incident.other_user_id or incident.user_id])
    return [Case(user, incident.incident_id, reasons) for user in users]


async def _open_cases(connection: Connection, cases: Sequence[Case]) -> None:
    sql = """
        INSERT INTO fraud.cases (case_id, user_id, rule, source_id, reasons, opened_at)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
        ON CONFLICT (source_id, user_id) DO NOTHING"""
    offset = clock.offset()
    rows = [
        (uuid7(), case.user_id, case.reasons[0].rule, case.source_id, _json(case.reasons), offset)
        for case in cases
    ]
    await connection.executemany(sql, rows)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
