"""What Celery's listeners (signals, events) are told of the deliveries that its tracer does not run.

They are told on the pool's event loop, in the context of the attempt, so that what a receiver sets there (a span of
a tracing library, say) is there for the handler too.
"""

from __future__ import annotations

import time
from typing import Any

from celery import signals, states
from celery.exceptions import Retry as CeleryRetry

from streammesh.tasks.task import AttemptOutcome

STATES = {AttemptOutcome.FAILED: states.FAILURE, AttemptOutcome.RETRYING: states.RETRY}


class DeliveryFailed(Exception):
    """Tells Celery (its log, Flower) that a delivery gave up; the reason is in the ledger."""


def begins_again(outcome: AttemptOutcome) -> CeleryRetry:
    """What Celery is told of an attempt that is followed by another."""
    return CeleryRetry(f"the ledger holds the next attempt: {outcome}")


def tell_begin(request: Any) -> None:
    """An attempt begins."""
    task = request.task
    request.send_event("task-started")
    about = {"task_id": request.id, "task": task, "args": request.args, "kwargs": request.kwargs}
    signals.task_prerun.send(sender=task, **about)


def tell_end(request: Any, outcome: AttemptOutcome) -> None:
    """An attempt has ended so."""
    task, about = request.task, {"args": request.args, "kwargs": request.kwargs}
    if outcome is AttemptOutcome.FAILED:
        error = DeliveryFailed(request.id)
        more = {"traceback": None, "einfo": None}
        signals.task_failure.send(sender=task, task_id=request.id, exception=error, **about, **more)
        request.send_event("task-failed", exception=repr(error), traceback="")
    elif outcome is AttemptOutcome.RETRYING:
        reason = begins_again(outcome)
        signals.task_retry.send(sender=task, request=task.request, reason=reason, einfo=None)
        request.send_event("task-retried", exception=repr(reason), traceback="")
    else:
        signals.task_success.send(sender=task, result=outcome.value)
        runtime = time.time() - request.time_start
        request.send_event("task-succeeded", result=repr(outcome.value), runtime=runtime)
    state = STATES.get(outcome, states.SUCCESS)
    about |= {"retval": outcome.value, "state": state}
    signals.task_postrun.send(sender=task, task_id=request.id, task=task, **about)
