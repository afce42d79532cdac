"""A service of durable handlers, which record each run of a step in a file outside Redis."""
