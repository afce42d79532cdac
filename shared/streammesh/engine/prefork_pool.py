"""Celery's prefork pool, which notices at once that a child died.

Celery looks after its children when the pipe to one of them closes, and every five seconds. The pipe of a killed
child closes a moment before the kernel has its exit code; a look in that moment finds nothing, and what the child
was running was begun again only by the look five seconds later.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

LOOK_AGAIN = (0.02, 0.2, 1.0)  # seconds after a pipe closed


class PromptAsynPool(AsynPool):
    """Looks again shortly after a child's pipe closed."""

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        for delay in LOOK_AGAIN:
            hub.call_later(delay, self.maintain_pool)


class TaskPool(prefork.TaskPool):
    """The pool."""

    Pool = PromptAsynPool
