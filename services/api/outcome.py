"""What became of an event, told anew from the records where its notifications are not kept any more. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.events.envelope import Event
from streammesh.notifications import (
    COMPLETED,
    LAST_OF_EVENT,
    TASK_TYPES,
    UNROUTED,
    Notification,
    body,
    event_body,
    fragment,
    whole,
)
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
    about, published = _about(row, event, tasks), rfc3339_ms(row.published_ms)
    frames = []
    for task in tasks:
        if task.ended and task.id not in told:
            kind, time = TASK_TYPES[task.state], task.times.get("ended_at") or published
            members = body(about, task.id, task.name, task.service, task.attempt, _data(task))
            frames.append(_frame(kind, whole(place, kind, time, members.encode())))
    return b"".join(frames)


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
    members = event_body(_about(row, event, tasks), data).encode()
    return _frame(kind, whole(place, kind, time, members), place)


def _about(row: EventRow, event: Event | None, tasks: Sequence[TaskRow]) -> str:
    subject = event.subject if event else next((task.event.get("subject") for task in tasks), None)
    about = {"id": row.id, "type": type_of(event, list(tasks)), "source": row.source, "subject": subject}
    return fragment(about)


def _data(task: TaskRow) -> dict[str, Any]:
    if task.left_out:
        return {"left_out": True}
    if task.state != names.TaskState.SUCCEEDED:
        return {"error": task.error}
    return {"result": task.result} | ({"events": task.events} if task.events else {})


def _frame(kind: str, note: bytes, place: str = "") -> bytes:
    at = b"id: %b\n" % place.encode() if place else b""
    return b"event: %b\ndata: %b\n%b\n" % (kind.encode(), note, at)
