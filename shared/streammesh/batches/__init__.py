"""Handlers that are given several events at once: what a run took along, and how each of them ends."""
