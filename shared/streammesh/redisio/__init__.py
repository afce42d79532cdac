"""Talking to Redis: addresses, connections, clients, batching, blocking reads, what becomes of a refusal."""
