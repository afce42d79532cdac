"""A service whose attempts are traced."""
