"""Services for the fault suite: each handler writes down when it began and when it was through, outside Redis."""
