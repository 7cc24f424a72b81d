"""Periods that end: final tables closed, sealed and read."""
