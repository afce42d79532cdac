"""Celery's queues as Redis Streams: a kombu transport. Knows kombu, not Celery."""
