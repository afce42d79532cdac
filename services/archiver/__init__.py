"""Writes what has ended into the history, and lets it leave Redis."""
