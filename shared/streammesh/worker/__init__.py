"""Celery: the one room that knows it. Everything else sees tasks through `Service`."""
