"""What a Postgres of several primaries needs: every row of a player carries the player's id."""

from collections.abc import Awaitable, Callable

import asyncpg

Migrated = Callable[..., Awaitable[dict[str, str]]]

# Small tables that every node would hold whole, as docs/capacity.md has it.
WHOLE_ON_EVERY_NODE = {
    *("scores.boards", "scores.periods", "scores.late_publications"),
    *("actions.action_types", "actions.catalogue"),
    *("fraud.versions", "fraud.positions"),
}


async def test_every_table_of_the_award_path_can_be_distributed_by_player(
    migrated: Migrated,
) -> None:
    urls = await migrated("scores", "actions", "fraud")
    connection = await asyncpg.connect(urls["admin"])
    rows = await connection.fetch(
        """
        SELECT n.nspname || '.' || c.relname AS name, a.attnotnull AS carries
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'user_id'
        WHERE n.nspname IN ('scores', 'actions', 'fraud') AND c.relkind IN ('r', 'p')
          AND NOT c.relispartition AND c.relname <> 'migrations'
        """
    )
    await connection.close()

    without = {row["name"] for row in rows if not row["carries"]}
    assert without == WHOLE_ON_EVERY_NODE
    assert {"scores.ledger", "scores.receipts", "actions.actions"} <= {row["name"] for row in rows}
