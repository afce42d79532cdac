"""The scheduler: Celery Beat whose ticks are events, and the worker that looks at the mesh."""
