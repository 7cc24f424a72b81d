"""Fraud: verdicts over attempts, sanctions over players."""
