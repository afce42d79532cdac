"""A service for tests with sync handlers in worker processes, and workflows."""
