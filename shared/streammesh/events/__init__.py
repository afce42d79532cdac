"""Events: envelope, validation, publishing once, reading in groups, retention."""
