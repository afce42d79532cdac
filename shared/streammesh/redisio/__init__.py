"""Redis connections: opening, batching, blocking reads, retrying, signs of life."""
