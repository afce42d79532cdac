"""Celery pool for `def` handlers: some dozens at once, in threads of one process.

It is the async pool with fewer places: a delivery is claimed and finished on the loop, with whatever else is at the
same step, and only its handler runs in a thread. A thread cannot be killed. What is cancelled or over its hard limit
has ended for the mesh and keeps its place until its thread comes to its end; see `thread_exception.py`.
"""

from __future__ import annotations

from streammesh.worker import async_pool


class TaskPool(async_pool.TaskPool):
    """The pool."""
