"""Bench: what the suite costs, measured on suites of its own. Not part of any image."""
