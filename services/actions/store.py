"""All storage of actions: the catalogue, the actions, the incidents that wait."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

from chassis.postgres import Database
from services.actions.catalogue import ActionType
from services.actions.tokens import Sealed

CLOSED = ("refused", "given_up")  # the states of actions that no token redeems any more


class Row(NamedTuple):
    """What is stored of an action."""

    sealed: Sealed  # as its first token, but the points and the expiry of its newest
    state: str  # requested, completed, awarded, refused or given_up
    completed_checksum: bytes | None


class Play(NamedTuple):
    """An action to be issued, and the limits it is under."""

    sealed: Sealed
    token_sha256: bytes
    pool: str  # the open tokens it counts among
    pool_max: int
    daily_cap: int | None


class Outcome(NamedTuple):
    """What became of a play: `issued`, `pending` (too many open tokens) or `capped`."""

    outcome: str
    freed_at_ms: int  # when the first open token of its pool expires, the batch's own included


class Completion(NamedTuple):
    """An action whose proof was verified."""

    action_id: str
    points: int
    checksum: bytes
    token_sha256: bytes


class Strike(NamedTuple):
    """A wrong signature on an action, or one that closes it."""

    action_id: str
    closes: bool


class Incident(NamedTuple):
    """One incident. Times are Unix milliseconds."""

    incident_id: str
    user_id: str  # who did it
    rule: str  # time, amount, foreign or proof
    action_id: str
    action_type: str
    observed: int
    threshold: int
    at_ms: int
    other_user_id: str | None  # foreign: whose token it was


class ActionsStore:
    """Every method raises DbUnavailable; lists take one round trip."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fetch = database.fetch

    async def types(self, known_version: int) -> tuple[int, list[ActionType]] | None:
        """The catalogue's version and all types of it; None while that is the known one."""
        sql = """
            SELECT t.action_type, t.title, t.points, t.min_duration_ms, t.max_duration_ms,
                   t.token_ttl_s, t.daily_cap, t.max_open, t.authoritative, t.formula,
                   t.points_min, t.points_max, t.times_since_ms, c.version
            FROM actions.catalogue c CROSS JOIN actions.action_types t WHERE c.version <> $1"""
        rows = [dict(row) for row in await self._fetch(sql, known_version)]
        if not rows:
            return None
        (version,) = {row.pop("version") for row in rows}
        return version, [ActionType(**row) for row in rows]

    async def create_type(self, new: ActionType) -> bool:
        """Adds the type; False when there is one of that name."""
        # The version's row is locked until the commit, so versions rise in commit order.
        sql = """
            WITH made AS (
                INSERT INTO actions.action_types (action_type, title, points, min_duration_ms,
                    max_duration_ms, token_ttl_s, daily_cap, max_open, authoritative, formula,
                    points_min, points_max, times_since_ms)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                ON CONFLICT (action_type) DO NOTHING RETURNING action_type
            )
            UPDATE actions.catalogue SET version = version + 1
            WHERE EXISTS (SELECT FROM made) RETURNING version"""
        return bool(await self._fetch(sql, *astuple(new)))

    async def change_type(
        self, name: str, change: Callable[[ActionType], ActionType]
    ) -> tuple[ActionType, ActionType] | None:
        """The type before and after `change`, whose failures change nothing; None for a type
        that there is not. Changes of one type happen one after the other."""
        select = """
            SELECT action_type, title, points, min_duration_ms, max_duration_ms, token_ttl_s,
                   daily_cap, max_open, authoritative, formula, points_min, points_max,
                   times_since_ms
            FROM actions.action_types WHERE action_type = $1 FOR NO KEY UPDATE"""
        update = """
            UPDATE actions.action_types
               SET title = $2, points = $3, min_duration_ms = $4, max_duration_ms = $5,
                   token_ttl_s = $6, daily_cap = $7, max_open = $8, authoritative = $9,
                   formula = $10, points_min = $11, points_max = $12, times_since_ms = $13
             WHERE action_type = $1"""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(select, name)
            if row is None:
                return None
            before = ActionType(**row)
            after = change(before)
            if after != before:
                await connection.execute(update, *astuple(after))
                await connection.execute("UPDATE actions.catalogue SET version = version + 1")
            return before, after

    async def issue(self, plays: Sequence[Play], *, kid: int, now_ms: int) -> list[Outcome]:
        """Issues those that fit, in order."""
        sealed = [play.sealed for play in plays]
        rows = await self._fetch(
            "SELECT ord, outcome, freed_at_ms FROM actions.issue"
            "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            [one.action_id for one in sealed],
            [one.user_id for one in sealed],
            [one.action_type for one in sealed],
            [one.points for one in sealed],
            [one.nonce for one in sealed],
            kid,
            [play.token_sha256 for play in plays],
            [one.expires_at_ms for one in sealed],
            [play.pool for play in plays],
            [play.pool_max for play in plays],
            [play.daily_cap for play in plays],
            now_ms,
        )
        outcomes = {row["ord"]: Outcome(row["outcome"], row["freed_at_ms"]) for row in rows}
        return [outcomes[place] for place in range(1, len(plays) + 1)]

    async def settled(self, action_ids: Sequence[str]) -> dict[str, str]:
        """The state of each that is settled: `awarded`, `refused` or `given_up`."""
        rows = await self._fetch("SELECT action_id, state FROM actions.settled($1)", action_ids)
        return {str(row["action_id"]): row["state"] for row in rows}

    async def find(self, action_ids: Sequence[str]) -> dict[str, Row]:
        """The actions that there are, by id."""
        sql = """
            SELECT action_id::text, user_id::text, action_type, points, nonce, kid, issued_at_ms,
                   expires_at_ms, false AS completed, state, completed_checksum
            FROM actions.find($1)"""
        return {row["action_id"]: _row(**row) for row in await self._fetch(sql, action_ids)}

    async def complete(
        self, completions: Sequence[Completion], *, expires_at_ms: int
    ) -> dict[str, tuple[bytes, bool]]:
        """Completes those still open; by id the checksum that each now is completed by, and
        whether it was so before."""
        rows = await self._fetch(
            "SELECT action_id, checksum, repeat FROM actions.complete($1, $2, $3, $4, $5)",
            [completion.action_id for completion in completions],
            [completion.points for completion in completions],
            [completion.checksum for completion in completions],
            [completion.token_sha256 for completion in completions],
            expires_at_ms,
        )
        return {str(row["action_id"]): (row["checksum"], row["repeat"]) for row in rows}

    async def record(
        self, strikes: Sequence[Strike], incidents: Sequence[Incident], *, now_ms: int
    ) -> list[tuple[str, str]]:
        """Counts and closes, and keeps the incidents, in one transaction. Returns action id and
        player of those that this closed."""
        rows = await self._fetch(
            "SELECT action_id, user_id FROM actions.record"
            "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [strike.action_id for strike in strikes],
            [strike.closes for strike in strikes],
            [incident.incident_id for incident in incidents],
            [incident.user_id for incident in incidents],
            [incident.rule for incident in incidents],
            [incident.action_id for incident in incidents],
            [incident.action_type for incident in incidents],
            [incident.observed for incident in incidents],
            [incident.threshold for incident in incidents],
            now_ms,
            [incident.other_user_id for incident in incidents],
        )
        return [(str(row["action_id"]), str(row["user_id"])) for row in rows]

    async def settle(self, states: Mapping[str, str]) -> list[str]:
        """Settles open actions, by id, as `refused` or `given_up`; as `awarded` any. Returns the
        players whose tokens it settled."""
        rows = await self._fetch(
            "SELECT user_id FROM actions.settle($1, $2)", list(states), list(states.values())
        )
        return [str(row["user_id"]) for row in rows]

    async def incidents(self, *, limit: int) -> list[Incident]:
        """Some that are not reported yet."""
        sql = """
            SELECT incident_id::text, user_id::text, rule, action_id::text, action_type,
                   observed, threshold, at_ms, other_user_id::text
            FROM actions.incidents LIMIT $1"""
        return [Incident(**row) for row in await self._fetch(sql, limit)]

    async def drop_incidents(self, incident_ids: Sequence[str]) -> None:
        """Forgets incidents that were reported."""
        await self._fetch(
            "DELETE FROM actions.incidents WHERE incident_id = ANY ($1)", incident_ids
        )


def _row(state: str, completed_checksum: bytes | None, **sealed: Any) -> Row:
    return Row(Sealed(**sealed), state, completed_checksum)
