"""A page that follows an event."""
