"""Incidents in Postgres that fraud has not received yet."""

from collections.abc import Sequence
from typing import NamedTuple

from chassis.postgres import Database


class Incident(NamedTuple):
    """A token shown again after it was redeemed. `at_ms` is Unix time."""

    incident_id: str
    user_id: str
    action_id: str
    action_type: str
    at_ms: int


class IncidentStore:
    """Every method raises DbUnavailable."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def add(self, incidents: Sequence[Incident]) -> None:
        """Stores them, each once."""
        await self._fetch(
            """
            INSERT INTO scores.incidents (incident_id, user_id, action_id, action_type, at_ms)
            SELECT i.incident_id, i.user_id, i.action_id, i.action_type, i.at_ms
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[])
                 AS i(incident_id, user_id, action_id, action_type, at_ms)
            ON CONFLICT (incident_id) DO NOTHING
            """,
            [i.incident_id for i in incidents],
            [i.user_id for i in incidents],
            [i.action_id for i in incidents],
            [i.action_type for i in incidents],
            [i.at_ms for i in incidents],
        )

    async def some(self, *, limit: int) -> list[Incident]:
        """Some of them."""
        records = await self._fetch(
            """
            SELECT i.incident_id::text, i.user_id::text, i.action_id::text, i.action_type, i.at_ms
            FROM scores.incidents i LIMIT $1
            """,
            limit,
        )
        return [Incident(**record) for record in records]

    async def delete(self, incident_ids: Sequence[str]) -> None:
        """Deletes those that fraud has received."""
        await self._fetch(
            "DELETE FROM scores.incidents i WHERE i.incident_id = ANY ($1)", incident_ids
        )
