"""The front door: publish events, ask what became of them, be told as it happens."""
