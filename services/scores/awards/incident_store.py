"""Findings in Postgres that fraud has not taken yet."""

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


class Incidents:
    """Every method raises DbUnavailable when Postgres is away."""

    def __init__(self, database: Database) -> None:
        self._fetch = database.fetch

    async def add(self, incidents: Sequence[Incident]) -> None:
        """Keeps them, each once."""
        await self._fetch(
            """
            INSERT INTO scores.incidents (incident_id, user_id, action_id, action_type, at_ms)
            SELECT i.incident_id, i.user_id, i.action_id, i.action_type, i.at_ms
            FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[])
                 AS i(incident_id, user_id, action_id, action_type, at_ms)
            ON CONFLICT (incident_id) DO NOTHING
            """,
            *(list(column) for column in zip(*incidents, strict=True)),
        )

    async def some(self, *, limit: int) -> list[Incident]:
        """Some that fraud has not taken yet."""
        records = await self._fetch(
            """
            SELECT i.incident_id::text, i.user_id::text, i.action_id::text, i.action_type, i.at_ms
            FROM scores.incidents i LIMIT $1
            """,
            limit,
        )
        return [Incident(*record) for record in records]

    async def drop(self, incident_ids: Sequence[str]) -> None:
        """Forgets those that fraud has taken."""
        await self._fetch(
            "DELETE FROM scores.incidents i WHERE i.incident_id = ANY ($1)", incident_ids
        )
