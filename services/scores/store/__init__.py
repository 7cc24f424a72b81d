"""All that the scores service keeps in Postgres: the ledger, the standings, the final tables."""
