"""The award, from a token to a ledger row, its ranks and its answer."""
