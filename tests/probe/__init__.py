"""A service for tests: its handlers record each run in a file, outside Redis."""
