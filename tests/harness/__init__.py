"""What tests that run real processes share."""
