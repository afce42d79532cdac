"""What a worker measures of its attempts.

In a pool of threads or of asyncio tasks the attempt itself does; of a prefork child the parent does, which hears how
long each took and what became of it.
"""

from __future__ import annotations

import time
from typing import Any

from celery.exceptions import Retry

from streammesh.tasks.task import AttemptOutcome
from streammesh.telemetry import catalogue, metrics

BROKE = "broke"  # neither the handler's end nor a retry: it goes back to its queue
STOPPED = "stopped"  # over its hard limit, or its process died


class running:  # noqa: N801 - a context, which costs a third of what a generator's does
    """A handler of `task` runs within; `entry` is its place in the queue."""

    __slots__ = ("_began", "_task")

    def __init__(self, task: str, entry: str) -> None:
        self._task, self._began = task, 0.0
        if metrics.is_on():
            began(task, entry)

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        catalogue.RUN.observe(time.perf_counter() - self._began, self._task)


def began(task: str, entry: str) -> None:
    """A handler begins now; how long it waited stands in the id of its entry, by Redis's clock."""
    queued, _, number = entry.partition("-")
    if number and queued.isdigit():
        catalogue.QUEUE_TO_RUN.observe(max(0.0, time.time() - int(queued) / 1000), task)


def told(task: str, outcome: AttemptOutcome | None, raised: Any, seconds: float | None) -> None:
    """A prefork child has told what came of an attempt; where that is no outcome, what Celery's tracer raised.

    Celery measures no time where the task raised what its tracer takes for its own: a retry, a rejection.
    """
    if seconds is not None:
        catalogue.RUN.observe(seconds, task)
    if outcome is None:
        error = getattr(raised, "exception", None)
        error = getattr(error, "exc", error)
        failed = AttemptOutcome.FAILED if type(error).__name__ == "DeliveryFailed" else None
        outcome = AttemptOutcome.RETRYING if isinstance(error, Retry) else failed
    catalogue.ATTEMPTS.inc(task, outcome.value if outcome else BROKE)
