"""Celery's own integration tests, run with the mesh's transport as the broker: `python -m tests.celery_suite`."""
