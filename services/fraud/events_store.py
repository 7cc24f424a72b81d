"""Fraud's own copy of the awards in Postgres, and how far the stream was copied."""

from collections.abc import Sequence

from chassis.postgres import Database
from protos.events_pb2 import ScoreEvent

_KINDS = {number: name.lower() for name, number in ScoreEvent.Kind.items()}


class EventStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(self) -> str:
        """How far the stream of awards was copied: the id of an entry."""
        (row,) = await self._database.fetch(
            "SELECT entry_id FROM fraud.positions WHERE stream = 'awards'"
        )
        return str(row["entry_id"])

    async def copy(self, events: Sequence[ScoreEvent], *, after: str, upto: str) -> str | None:
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
                       e.points, e.old_score, e.new_score, to_timestamp(e.at_ms / 1000.0)
                FROM unnest($4::uuid[], $5::text[], $6::bigint[], $7::uuid[], $8::bigint[],
                            $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
                            $13::bigint[])
                  AS e(event_id, kind, seq, user_id, version, action_type, points, old_score,
                       new_score, at_ms)
                WHERE EXISTS (SELECT FROM moved)
                ON CONFLICT (event_id) DO NOTHING
            )
            SELECT m.entry_id FROM moved m
            """,
            after,
            upto,
            max((event.seq for event in events), default=0),
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
        return rows[0]["entry_id"] if rows else None
