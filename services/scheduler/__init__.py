"""The scheduler: Celery Beat whose ticks are events, and the worker for the mesh's own maintenance."""
