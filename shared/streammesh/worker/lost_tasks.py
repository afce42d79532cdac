"""Tells the callers of plain tasks that a task has ended which no worker came to the end of.

Its result becomes FAILURE, its `link_error` is called, a chord that it is a part of fails. Told before the entry is
parked: should the process die in between, it is told again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery import current_app, signals, states
from celery.app.task import Context
from celery.exceptions import InvalidTaskError

from streammesh.errors import Malformed
from streammesh.tasks.task import Failure
from streammesh.transport import poison
from streammesh.transport.codec import decode, headers_of

log = structlog.get_logger(__name__)


def tell_of_failure(task: Any, context: Context, error: Exception, store_result: bool) -> None:
    """Have Celery end a task as failed: result, chord, errbacks, signal."""
    task.backend.mark_as_failure(context.id, error, request=context, store_result=store_result)
    signals.task_failure.send(
        sender=task,
        task_id=context.id,
        exception=error,
        args=context.args,
        kwargs=context.kwargs,
        traceback=None,
        einfo=None,
    )


def tell_of_parked(fields: Mapping[bytes, bytes], queue: str, entry: str, failure: Failure) -> None:
    """A queue entry is about to become a dead letter. Never raises: it is parked whatever becomes of this."""
    headers = headers_of(fields)
    task_id, name = headers.get("id"), headers.get("task")
    if not isinstance(task_id, str) or not isinstance(name, str):
        return
    app = current_app
    lost = failure.kind == poison.POISON
    error = WorkerLostError(f"{name}: {failure.reason}") if lost else InvalidTaskError(failure.reason)
    try:
        request = {**headers, **_content(fields, queue, entry)}
        if app.backend.get_state(task_id) in states.READY_STATES:
            return
        store = not headers.get("ignore_result")
        app.backend.mark_as_failure(task_id, error, request=Context(request), store_result=store)
    except Exception:
        log.exception("task.caller_not_told", task_id=task_id, task=name)
        return
    log.error("task.failed", task_id=task_id, task=name, reason=failure.reason)


def _content(fields: Mapping[bytes, bytes], queue: str, entry: str) -> dict[str, Any]:
    try:
        message = decode(fields, queue, entry)
    except Malformed:
        return {}
    parsed, properties = message["parsed"], message["properties"]
    if not isinstance(parsed, list):  # Celery's first protocol
        return {}
    args, kwargs, embed = parsed
    info = properties["delivery_info"]
    return {
        "args": args,
        "kwargs": kwargs,
        **embed,
        "reply_to": properties.get("reply_to"),
        "correlation_id": properties.get("correlation_id"),
        "delivery_info": {**info, "priority": properties.get("priority")},
    }


poison.told_of_parked.append(tell_of_parked)
