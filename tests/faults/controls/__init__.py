"""Dispatchers that are broken on purpose: a checker that finds nothing wrong with these proves nothing."""
