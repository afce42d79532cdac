"""Talking to Redis: addresses, connections, clients, and what becomes of what it refuses."""
