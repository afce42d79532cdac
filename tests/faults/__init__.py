"""Kills things, cuts connections, and counts what was lost and what happened twice: `python -m tests.faults`."""
