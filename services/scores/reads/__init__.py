"""Reads of boards and of a player's own ledger."""
