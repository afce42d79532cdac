"""What became of an event, told anew from the records where its notifications are not kept any more. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.events.envelope import Event
from streammesh.notifications import COMPLETED, LAST_OF_EVENT, TASK_TYPES, UNROUTED, Notification
from streammesh.tasks.records import EventRow, TaskRow

from services.api.documents import type_of

_ENDS = frozenset(TASK_TYPES[state] for state in names.ENDED)


def endings(
    row: EventRow, event: Event | None, tasks: Sequence[TaskRow], known: Sequence[Notification], place: str
) -> bytes:
    """Return how each task ended whose ending is not among `known`; without an SSE `id`, so a client's place stays.

    `place` is the position of the event's newest notification.
    """
    told = {note.task for note in known if note.type in _ENDS}
    about = _about(row, event, tasks)
    return b"".join(
        _frame(TASK_TYPES[task.state], _task(task, about, place))
        for task in tasks
        if task.ended and task.id not in told
    )


def end(
    row: EventRow, event: Event | None, tasks: Sequence[TaskRow], known: Sequence[Notification], place: str
) -> bytes:
    """Return the last notification of an event that ended, where it is not among `known`; empty where it is.

    Its SSE `id` is `place`: whoever resumes there is told that there is nothing more.
    """
    if any(note.type in LAST_OF_EVENT for note in known):
        return b""
    kind: str = COMPLETED
    data: dict[str, Any] = {"tasks": row.done, "failed": row.failed}
    if row.wanted == 0:
        kind, data = UNROUTED, {"reason": "no subscription wants it"}
    time = rfc3339_ms(int(place.partition("-")[0]) or row.published_ms)
    value = {"id": place, "type": kind, "time": time, "event": _about(row, event, tasks), "data": data}
    return _frame(kind, value, place)


def _about(row: EventRow, event: Event | None, tasks: Sequence[TaskRow]) -> dict[str, Any]:
    subject = event.subject if event else next((task.event.get("subject") for task in tasks), None)
    return {"id": row.id, "type": type_of(event, list(tasks)), "source": row.source, "subject": subject}


def _task(task: TaskRow, about: dict[str, Any], place: str) -> dict[str, Any]:
    data: dict[str, Any] = {"error": task.error} if task.error else {"result": task.result}
    if task.left_out:
        data["left_out"] = True
    if task.events:
        data["events"] = task.events
    return {
        "id": place,
        "type": TASK_TYPES[task.state],
        "time": task.times.get("ended_at"),
        "event": about,
        "task": {"id": task.id, "name": task.name, "service": task.service, "attempt": task.attempt},
        "data": data,
    }


def _frame(kind: str, value: dict[str, Any], place: str = "") -> bytes:
    at = b"id: %b\n" % place.encode() if place else b""
    return b"event: %b\ndata: %b\n%b\n" % (kind.encode(), orjson.dumps(value), at)
